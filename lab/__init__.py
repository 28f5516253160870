"""The RL lab: from bandits to PPO, each step small, checked against published results, on the maths of `rlhf`.

python -m lab.bandits --help        # and lab.tabular, lab.dqn, lab.ppo, lab.chat

The lab imports `rlhf`; nothing there imports the lab.
"""
