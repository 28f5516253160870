"""Early stopping of PPO: when the policy has gone too far from its reference, or learns nothing more.

reason = reason_to_stop(settings, kl=31.0, without_a_better=0)      # "KL 31 nats a response, above ppo.stop_at_kl=20"
"""

from rlhf.config import PPOSection


def reason_to_stop(settings: PPOSection, kl: float, without_a_better: int) -> str | None:
    """Why training ends here; None where it goes on, as it always does by default.

    Args:
        settings: `stop_at_kl` and `patience`.
        kl: mean KL of an update's responses to the reference, nats a response.
        without_a_better: evaluations in a row whose held-out objective was no better than the best one before.
    """
    if settings.stop_at_kl and kl > settings.stop_at_kl:
        return f"KL {kl:.4g} nats a response, above ppo.stop_at_kl={settings.stop_at_kl:g}"
    if settings.patience and without_a_better >= settings.patience:
        return f"no better held-out objective in {without_a_better} evaluations, ppo.patience={settings.patience}"
    return None
