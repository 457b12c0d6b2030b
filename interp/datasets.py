"""Documents -> rows of tokens with masks, in batches of about equal cost, from any cursor on.

Axes: b rows, t position in the row.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Literal, get_args

import torch
from pydantic import Field

from interp.chat import Conversation, encode_chat, template_facts
from interp.config import Config
from interp.deduplication import Deduplicate, without_duplicates
from interp.document_hash import split_share
from interp.documents import Documents, open_documents
from interp.errors import ConfigError, DataError
from interp.hub_documents import Place
from interp.models import Model
from interp.overlap import READ_DOCUMENTS, overlap_facts
from interp.recording import ProgressLines
from interp.token_rows import EncodedDocument, Row, collate, packed_rows, padded_rows
from interp.token_rows import TokenBatch as TokenBatch

Split = Literal["train", "heldout", "all"]


class MaskPolicy(Config):
    """Which tokens an SAE never sees, in training and in evaluation alike. Padding is always among them."""

    mask_bos: bool = True
    """Leave out the beginning-of-sequence token: its activations are outliers in most models."""
    mask_special: bool = True
    """Leave out the tokenizer's other special tokens."""
    roles: tuple[str, ...] = ()
    """Of conversations keep only what these speakers say (assistant, user, system); empty: everyone."""
    mask_template: bool = True
    """Of conversations leave out what the chat template writes around the messages."""

    @property
    def facts(self) -> dict[str, Any]:
        """What is recorded of the policy; settings for conversations only where they are not the usual ones."""
        facts: dict[str, Any] = {"mask_bos": self.mask_bos, "mask_special": self.mask_special}
        if self.roles:
            facts["roles"] = list(self.roles)
        return facts if self.mask_template else facts | {"mask_template": False}


class DataConfig(Config):
    """How text becomes rows of tokens."""

    text_field: str = "text"
    """Field or column that holds the text, or a conversation as a list of {role, content} (jsonl, parquet, hub)."""
    context_size: int = Field(256, ge=2)
    """Tokens per row, the BOS token included; at most what the model can read."""
    rows: Literal["padded", "packed", "joined"] = "padded"
    """One document piece per row, right-padded; documents packed back to back without seeing each other; or joined:
    packed, and seeing those before them in the row, as most models were pretrained."""
    prepend_bos: bool | None = None
    """Begin each row (packed, joined: each document) with BOS, an encoder's with [CLS] before and [SEP] after the text;
    unset: yes if the tokenizer has one."""
    deduplicate: Deduplicate = "no"
    """Read each document once: exact (same words in the same order) or near (most runs of 13 words shared, MinHash; in
    scripts without spaces the same as exact). What came before is told from the first document on, so that going on
    with a run reads the text again."""
    deduplicate_mib: int = Field(64, ge=1, le=65_536)
    """Memory in MiB that tells what came before: 64 are enough for about 20 million documents, or 2 million if near."""
    heldout_share: float = Field(0.05, ge=0.0, lt=1.0)
    """Share of the documents, chosen by the hash of their text, kept apart for evaluation."""
    overlap_documents: int = Field(20_000, ge=0)
    """Training documents in which runs of 13 words of the evaluation text are looked for; the manifest tells the share
    that was found, null for scripts without spaces, whose words are not told apart. 0: no check."""
    batch_tokens: int = Field(8192, ge=1)
    """Tokens per forward pass of the model."""
    mask: MaskPolicy = MaskPolicy()
    """Tokens left out of training and evaluation."""

    @property
    def judged_split(self) -> Split:
        """What figures are measured on: held-out text where some is kept apart, otherwise all of it."""
        return "heldout" if self.heldout_share > 0 else "all"


# Documents are grouped so that rows can be packed and sorted by length with bounded memory and a small cursor.
_GROUP_DOCUMENTS = 512
_GROUP_CHARACTERS = 4_000_000


class TokenStream:
    """Token batches of one split of a data set, for one model.

    `begin` and `end` are the tokens around each row's text, `masked` those that are never kept.
    """

    def __init__(self, documents: Documents, model: Model, config: DataConfig, *, split: Split = "train") -> None:
        """Raises: ConfigError for a split that does not exist, or rows that the model cannot read: too long, packed for
        an encoder, BOS it lacks."""
        if split not in get_args(Split):
            raise ConfigError(f"split: got {split!r}; expected one of {', '.join(get_args(Split))}")
        if model.context_size is not None and config.context_size > model.context_size:
            raise ConfigError(
                f"data.context_size: got {config.context_size}; {model.name} reads at most {model.context_size} tokens"
            )
        if config.prepend_bos and model.bos_token_id is None:
            raise ConfigError(f"data.prepend_bos: {model.name}'s tokenizer has no BOS token; set it to false")
        if config.rows != "padded" and not model.causal:
            raise ConfigError(
                f"data.rows: got {config.rows}; {model.name} is an encoder, in which documents of one row would see "
                "each other both ways; use padded"
            )
        self.documents, self.config, self.split = documents, config, split
        self._model = model
        frame, wanted = model.frame, config.prepend_bos is not False
        self.begin = [frame.begin] if wanted and frame.begin is not None else []
        self.end = [frame.end] if wanted and frame.end is not None else []
        self.masked = sorted(masked_ids(model, config.mask))

    @property
    def prepends_bos(self) -> bool:
        return bool(self.begin)

    @property
    def facts(self) -> dict[str, Any]:
        """What a manifest records of the data."""
        return {
            "dataset": self.documents.name,
            "content_hash": self.documents.content_hash,
            "text_field": self.config.text_field,
            **self._deduplicated(),
            **self._chat_template(),
            "split": {"by": "document hash", "heldout_share": self.config.heldout_share, "used": self.split},
            "context_size": self.config.context_size,
            "rows": self.config.rows,
            **self._attention(),
            "prepend_bos": self.prepends_bos,
            "mask_policy": self.config.mask.facts,
        }

    def _attention(self) -> dict[str, Any]:
        rows = self.config.rows
        return {} if rows == "padded" else {"attention_across_documents": rows == "joined"}

    def _deduplicated(self) -> dict[str, Any]:
        by = self.config.deduplicate
        return {} if by == "no" else {"deduplicate": {"by": by, "mebibytes": self.config.deduplicate_mib}}

    def _chat_template(self) -> dict[str, Any]:
        """What wrote the text around messages; nothing for plain text, by the first document."""
        tokenizer = self._model.tokenizer
        if not tokenizer.chat_template:
            return {}
        first = next(self.documents.iter_from(), None)
        return {"chat_template": template_facts(tokenizer)} if first and isinstance(first[1], Conversation) else {}

    def overlap(self, evaluated: "TokenStream") -> dict[str, Any]:
        """What a manifest records of the runs of words that evaluation text shares with this stream's.

        Nothing where nothing is held out; of either text no more than the first documents are read.
        """
        if evaluated.split == "heldout" and evaluated.config.heldout_share == 0:
            return {}
        with ProgressLines("overlap with training text", None) as progress:
            texts = (stream._first_texts(progress) for stream in (evaluated, self))
            return overlap_facts(*texts, n_training_documents=self.config.overlap_documents)

    def _first_texts(self, progress: ProgressLines) -> Iterator[str]:
        for n_read, (_, text) in enumerate(islice(self.documents.iter_from(), READ_DOCUMENTS), start=1):
            if n_read % 100 == 0:
                progress.show(n_read, f"{self.split} documents read")
            if text.strip() and self._in_split(text):
                yield text

    def with_split(self, split: Split) -> "TokenStream":
        """The same data with another of its splits."""
        return TokenStream(self.documents, self._model, self.config, split=split)

    def iter_pass(self) -> Iterator[TokenBatch]:
        """One pass over the split.

        Raises: DataError if the split holds no usable token.
        """
        for cursor, batch in self.iter_from({}):
            if cursor["epoch"] > 0:
                return
            yield batch

    def iter_from(self, cursor: Mapping[str, int]) -> Iterator[tuple[dict[str, int], TokenBatch]]:
        """Batches for ever, pass after pass, each with the cursor that gives it again; {} is the beginning.

        Raises: DataError if a whole pass holds no usable token.
        """
        epoch, document, skip = (cursor.get(key, 0) for key in ("epoch", "document", "batch"))
        place = {key.removeprefix("at."): value for key, value in cursor.items() if key.startswith("at.")}
        while True:
            usable = document > 0 or skip > 0
            for first, begun, texts in self._groups(document, place):
                here = {"epoch": epoch, "document": first, **{f"at.{key}": value for key, value in begun.items()}}
                for index, batch in enumerate(self._batches(texts)):
                    usable = usable or batch.n_kept > 0
                    if index >= skip:
                        yield {**here, "batch": index}, batch
                skip = 0
            if not usable:
                raise DataError(self._nothing())
            epoch, document, place = epoch + 1, 0, {}

    def _nothing(self) -> str:
        share = f" ({self.split} split, held-out share {self.config.heldout_share:g})" if self.split != "all" else ""
        return f"{self.documents.name}: no usable token{share}; give more text, or another split or mask"

    def _groups(self, start: int, place: Place) -> Iterator[tuple[int, Place, list[tuple[int, str]]]]:
        """Groups of documents, each with the number of its first one and the place where it begins."""
        group: list[tuple[int, str]] = []
        first, begun, characters = start, place, 0
        for number, text, behind in self.documents.iter_places(start, place):
            if text.strip() and self._in_split(text):
                group.append((number, text))
                characters += len(text)
            if len(group) >= _GROUP_DOCUMENTS or characters >= _GROUP_CHARACTERS:
                yield first, begun, group
                group, first, begun, characters = [], number + 1, behind, 0
        if group:
            yield first, begun, group

    def _in_split(self, text: str) -> bool:
        if self.split == "all":
            return True
        return (split_share(text) < self.config.heldout_share) == (self.split == "heldout")

    def _batches(self, texts: Sequence[tuple[int, str]]) -> Iterator[TokenBatch]:
        documents = [document for document in self.encode(texts) if document.token_ids]
        packed, joined = self.config.rows != "padded", self.config.rows == "joined"
        size = self.config.context_size
        rows = packed_rows(documents, size, self.begin, joined=joined) if packed else self._padded(documents, size)
        # Rows of like length share a batch, so that little is padding; batches then come in random order, so that
        # whoever reads on meets short and long documents mixed.
        batches = self._cut(sorted(rows, key=len))
        order = torch.randperm(len(batches), generator=torch.Generator().manual_seed(texts[0][0]))
        pad = self._model.tokenizer.pad_token_id
        # Some tokenizers have a padding token that the model lacks; what stands there is never looked at.
        pad = pad if pad is not None and pad < self._model.d_vocab else 0
        for index in order.tolist():
            batch = collate(batches[index], pad=pad, masked=self.masked, packed=packed)
            self.check_vocabulary(batch)
            yield batch

    def _padded(self, documents: Sequence[EncodedDocument], size: int) -> list[Row]:
        if size <= len(self.begin) + len(self.end):
            raise ConfigError(f"data.context_size: got {size}; expected room for text beside [CLS] and [SEP]")
        return padded_rows(documents, size, self.begin, self.end)

    def encode(self, texts: Sequence[tuple[int, str]]) -> Iterator[EncodedDocument]:
        """Token ids of the documents, without the BOS that rows begin with."""
        plain = [(number, text) for number, text in texts if not isinstance(text, Conversation)]
        if plain and self.config.mask.roles:
            raise DataError(
                f"{self.documents.name}: document {plain[0][0]} is plain text, of which data.mask.roles can choose no "
                "speaker; name the field that holds conversations with --data.text-field"
            )
        tokenizer = self._model.tokenizer
        encoded = tokenizer([text for _, text in plain], add_special_tokens=False, verbose=False) if plain else {}
        of_plain = iter(encoded["input_ids"] if plain else ())
        for number, text in texts:
            if isinstance(text, Conversation):
                ids, usable = self._encode_conversation(number, text)
            else:
                ids = next(of_plain)
                usable = [True] * len(ids)
            # A chat template, or the text itself, may have written the BOS that the row gets anyway.
            n_doubled = int(bool(self.begin) and ids[:1] == self.begin)
            yield EncodedDocument(number, ids[n_doubled:], usable[n_doubled:])

    def _encode_conversation(self, number: int, conversation: Conversation) -> tuple[list[int], list[bool]]:
        mask = self.config.mask
        ids, roles = encode_chat(self._model.tokenizer, conversation, f"{self.documents.name}, document {number}")
        if mask.roles:
            return ids, [role in mask.roles for role in roles]
        return ids, [role is not None or not mask.mask_template for role in roles]

    def _cut(self, rows: Sequence[Row]) -> list[list[Row]]:
        """Runs of rows that fit the token budget once they are padded to the longest."""
        batches: list[list[Row]] = []
        for row in rows:
            if not batches or len(row) * (len(batches[-1]) + 1) > self.config.batch_tokens:
                batches.append([])
            batches[-1].append(row)
        return batches

    def check_vocabulary(self, batch: TokenBatch) -> None:
        """Raises: DataError if the tokenizer knows a token of the batch and the model does not."""
        highest = int(batch.token_ids.max())
        if highest >= self._model.d_vocab:
            token = self._model.tokenizer.convert_ids_to_tokens(highest)
            raise DataError(
                f"{self.documents.name}: the text holds {token!r}, which {self._model.name}'s tokenizer knows and the "
                "model does not; remove it from the text"
            )


def masked_ids(model: Model, policy: MaskPolicy) -> set[int]:
    """Token ids that a policy leaves out."""
    special = set(model.tokenizer.all_special_ids)
    bos = set() if model.bos_token_id is None else {model.bos_token_id}
    return (special - bos if policy.mask_special else set()) | (bos if policy.mask_bos else set())


def open_stream(name: str, model: Model, config: DataConfig, *, split: Split = "train") -> TokenStream:
    """Open a data set by name and make token batches of one of its splits for `model`.

    Raises: DataError if the data set cannot be opened; ConfigError as TokenStream does.
    """
    documents = open_documents(name, text_field=config.text_field)
    documents = without_duplicates(documents, config.deduplicate, mebibytes=config.deduplicate_mib)
    return TokenStream(documents, model, config, split=split)
