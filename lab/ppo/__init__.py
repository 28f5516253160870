"""PPO for Gymnasium: actions discrete and continuous, on the arithmetic that also trains the language model.

python -m lab.ppo --help

Settings `settings`, one training `runs` and `learner`, the command line and its study `command`.
"""
