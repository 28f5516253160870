"""Phase feedback: what people have judged, as numbers, as files, and from files.

python main.py --phase feedback                      what is there, and what of it may train
python main.py --phase feedback export FOLDER        pairs.jsonl and unpaired.jsonl, in TRL's formats
python main.py --phase feedback import FILE          either of them, or any file of pairs
"""

from pathlib import Path

from rlhf.chat.feedback import FILE, FeedbackStore
from rlhf.chat.store.export import export, import_feedback, left_out_in_words
from rlhf.chat.store.judgements import collect
from rlhf.errors import UserError
from rlhf.run import Run


def run_phase(run: Run) -> dict[str, int]:
    """Do what the words say; without any, print the counts. Returns the counts afterwards."""
    words, path = run.given.words, run.folder / FILE
    if words and (len(words) != 2 or words[0] not in ("export", "import")):
        raise UserError(
            "Phase feedback does not know what to do.",
            expected="nothing, export FOLDER, or import FILE",
            found=" ".join(words),
            remedy=f"for example: {run.command('feedback')} export feedback/",
        )
    comes = words[:1] == ("import",)
    if comes:
        _check_import(path, Path(words[1]).expanduser())
    with FeedbackStore(path, create=comes) as store:
        if words[:1] == ("export",):
            print(export(store, Path(words[1]).expanduser()))
        elif comes:
            print(import_feedback(store, Path(words[1]).expanduser()))
        counts = store.counts()
        if not words:
            _tell(store, counts)
    return counts


def _check_import(store: Path, file: Path) -> None:
    """Refuse before a store is made; say where one is made."""
    if not file.is_file():
        raise UserError(f"There is no file {file} to import.", remedy="check the path")
    if not store.exists():
        print(f"{store} is new: check --output if you expected judgements there")


def _tell(store: FeedbackStore, counts: dict[str, int]) -> None:
    print(f"{store.file}:")
    for name, number in counts.items():
        print(f"  {number:6}  {name.replace('_', ' ')}")
    found = collect(store)
    print(f"for training: {len(found.pairs)} pairs, {len(found.thumbs)} thumbs")
    print(*left_out_in_words(found.left_out), sep="\n")
