"""Rewards of replies, in TRL's convention `reward(prompts, completions, **columns) -> list[float]`. No trainer in here.

specs = RewardList.validate_python([{"reward": "length", "words": [5, 40]}, "my_rewards.polite"])   # specs.py
rewards = build_rewards(specs, Workshop(device))                                                    # build.py
rewards(prompts=["Hi"], completions=["Hello there!"]).total                                         # tensor (1,)
"""
