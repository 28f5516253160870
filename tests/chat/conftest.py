"""A run folder with two tiny versions, and a service on it."""

import pytest

from tests.chat.world import chat_config, save_version, service_on


@pytest.fixture
def folder(tmp_path, tokenizer):
    """DIR with sft, and ppo, which is live."""
    save_version(tmp_path / "sft", tokenizer, seed=1)
    save_version(tmp_path / "ppo", tokenizer, seed=2)
    return tmp_path


@pytest.fixture
def service(folder):
    with service_on(folder, chat_config()) as service:
        yield service
