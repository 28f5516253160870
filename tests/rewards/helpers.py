"""Tiny pretrained things in folders: a word-level encoder, a classifier, a sentence-transformers model."""

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertForSequenceClassification, BertModel, PreTrainedTokenizerFast

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "where", "is", "rome", "in", "italy", "a", "cat", "sits"]


def word_tokenizer(folder: Path, max_length: int = 16) -> PreTrainedTokenizerFast:
    """One token a word, [CLS] a [SEP] b [SEP] for pairs: another tokenizer than any policy's."""
    backend = Tokenizer(models.WordLevel({word: at for at, word in enumerate(VOCABULARY)}, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        model_max_length=max_length, model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )  # fmt: skip
    tokenizer.save_pretrained(folder)
    return tokenizer


def _config(**changes) -> BertConfig:
    return BertConfig(
        vocab_size=len(VOCABULARY), hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        max_position_embeddings=16, pad_token_id=0, **changes,
    )  # fmt: skip


def _enliven(model: torch.nn.Module) -> None:
    """Fresh weights are so small that every text gives nearly the same."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.mul_(60)


def save_classifier(folder: Path, labels: tuple[str, ...], **changes) -> BertForSequenceClassification:
    """A random classifier with these labels, and its tokenizer."""
    word_tokenizer(folder)
    torch.manual_seed(0)
    config = _config(id2label=dict(enumerate(labels)), label2id={n: i for i, n in enumerate(labels)}, **changes)
    model = BertForSequenceClassification(config).eval()
    _enliven(model)
    model.save_pretrained(folder)
    return model


def save_embedder(folder: Path) -> BertModel:
    """A sentence-transformers model of a random encoder and mean pooling, written as its library writes one."""
    transformer = folder / "0_Transformer"
    tokenizer = word_tokenizer(transformer)
    torch.manual_seed(1)
    model = BertModel(_config()).eval()
    _enliven(model)
    model.save_pretrained(transformer)
    (transformer / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": tokenizer.model_max_length, "do_lower_case": False})
    )
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    )
    library = "sentence_transformers.models"
    modules = [
        {"idx": 0, "name": "0", "path": "0_Transformer", "type": f"{library}.Transformer"},
        {"idx": 1, "name": "1", "path": "1_Pooling", "type": f"{library}.Pooling"},
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    return model
