"""People's judgements, as the chat has stored them: `{source: feedback, path: models/tiny/feedback.sqlite}`.

A row of the store is a duel, a rating or a message (see `rlhf/chat/feedback.py`); which judgements may train, and why
the others may not, is in `rlhf/chat/store/judgements.py`.
"""

import logging
from dataclasses import replace
from pathlib import Path

from rlhf.chat.feedback import FeedbackStore
from rlhf.chat.store.judgements import Judgements, Thumb, collect
from rlhf.config import SourceSpec
from rlhf.data.formats import Disliked
from rlhf.data.hh_rlhf import prompts_of
from rlhf.data.jsonl import pairs_of_rated
from rlhf.data.rows import locate
from rlhf.data.source import Source
from rlhf.errors import UserError
from rlhf.records import Conversation, Demonstration, Preference, Prompt, prompt_id

log = logging.getLogger(__name__)

CATEGORY = "chat"


class Feedback(Source):
    """Preferences (duels, corrections, thumbs), demonstrations (corrections), and what was asked."""

    name = "feedback"

    def preferences(self, spec: SourceSpec) -> list[Preference]:
        """As `preferences_of`. Raises `UserError`."""
        return preferences_of(_collect(spec))

    def demonstrations(self, spec: SourceSpec) -> list[Demonstration]:
        """The corrections. Raises `UserError` where there is none."""
        corrections = [pair for pair in _collect(spec).pairs if pair.kind == "correction"]
        if not corrections:
            raise UserError(f"{spec.path} holds no corrections, which are its demonstrations.",
                            remedy="name other demonstrations; duels and thumbs go into data.preferences")  # fmt: skip
        return [
            Demonstration(prompt_id(pair.prompt), pair.prompt, pair.chosen, CATEGORY, self.name) for pair in corrections
        ]

    def prompts(self, spec: SourceSpec) -> list[Prompt]:
        """What the judged replies reply to, once each; the reference is the preferred one, where there is one."""
        found = _collect(spec)
        known = prompts_of([_preference(pair.prompt, pair.chosen, pair.rejected, pair.kind) for pair in found.pairs])
        asked = {prompt.prompt: prompt for prompt in known}
        for thumb in found.thumbs:
            identity = prompt_id(thumb.prompt)
            asked.setdefault(thumb.prompt, Prompt(identity, thumb.prompt, CATEGORY, self.name, origin=identity))
        return list(asked.values())


def preferences_of(found: Judgements) -> list[Preference]:
    """The pairs; and of one prompt, a reply with a thumb up beside each with a thumb down."""
    pairs = [_preference(pair.prompt, pair.chosen, pair.rejected, pair.kind) for pair in found.pairs]
    known = {pair.question for pair in found.pairs}
    for pair in pairs_of_rated([_rated(thumb) for thumb in found.thumbs]):
        if (pair.prompt, frozenset((pair.chosen, pair.rejected))) not in known:  # side by side, people know better
            pairs.append(replace(pair, kind="thumbs"))
    return pairs


def _collect(spec: SourceSpec) -> Judgements:
    path = locate(spec)
    with FeedbackStore(Path(path), create=False) as store:
        found = collect(store)
    log.info("%s: %d pairs, %d thumbs; left out: %s", path, len(found.pairs), len(found.thumbs),
             dict(found.left_out) or "nothing")  # fmt: skip
    return found


def _preference(prompt: Conversation, chosen: str, rejected: str, kind: str) -> Preference:
    return Preference(prompt_id(prompt), prompt, chosen, rejected, Feedback.name, kind, CATEGORY)


def _rated(thumb: Thumb) -> Demonstration:
    kind = Demonstration if thumb.label else Disliked
    return kind(prompt_id(thumb.prompt), thumb.prompt, thumb.completion, CATEGORY, Feedback.name, float(thumb.label))


SOURCE = Feedback()
