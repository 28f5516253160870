"""The text of a reply while its tokens come."""

from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from rlhf.chat.inference.generation import GrowingText
from rlhf.tokenizer import decode_reply


class Counting:
    """A tokenizer that counts how many tokens it decodes."""

    def __init__(self, tokenizer):
        self.tokenizer, self.eos_token_id, self.decoded = tokenizer, tokenizer.eos_token_id, 0

    def decode(self, ids, **how):
        self.decoded += len(ids)
        return self.tokenizer.decode(ids, **how)


@given(data=st.data())
def test_whatever_the_tokens_are_the_text_is_the_beginning_of_the_whole(tokenizer, data):
    ids = data.draw(st.lists(st.integers(0, len(tokenizer) - 1), max_size=20))  # halves of characters among them
    ids = [id for id in ids if id != tokenizer.eos_token_id]
    text, seen = GrowingText(tokenizer), ""
    for count in range(1, len(ids) + 1):
        now = text.read(ids[:count])
        assert now.startswith(seen)
        seen = now
    whole = decode_reply(tokenizer, ids)
    assert whole.startswith(seen) and not whole[len(seen) :].strip("\N{REPLACEMENT CHARACTER}")


def test_a_long_reply_costs_as_much_a_token_as_a_short_one(tokenizer):
    def cost(length):
        counting = Counting(tokenizer)
        text, ids = GrowingText(counting), tokenizer.encode("a cat " * length)
        for count in range(1, len(ids) + 1):
            text.read(ids[:count])
        assert text.text == "a cat " * length
        return counting.decoded / len(ids)

    assert cost(500) <= cost(50) + 0.1 < 4


def test_blanks_that_a_tokenizer_drops_in_front_are_kept_within():
    words = {"▁the": 0, "▁cat": 1, "s": 2, "</s>": 3}
    backend = Tokenizer(models.WordLevel(words, unk_token="</s>"))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="</s>")
    text = GrowingText(tokenizer)
    assert [text.read([0, 1, 2, 0][:count]) for count in range(1, 5)] == ["the", "the cat", "the cats", "the cats the"]
