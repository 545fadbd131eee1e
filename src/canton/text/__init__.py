"""Byte-level language models: train, generate and score.

from pathlib import Path
from canton.text import TrainConfig, generate, load_model, train

train(TrainConfig(minutes=2), out=Path("model.safetensors"))
model = load_model(Path("model.safetensors")).model
print(b"".join(generate(model, 600)).decode())
"""

from canton.text.checkpoint import ModelFile, load_model, save_model
from canton.text.compress import compress, decompress
from canton.text.config import ARTICLE, Architecture, Sampling, TrainConfig
from canton.text.corpus import Batch, ContiguousBatches, Corpus
from canton.text.dynamic_eval import Adapter
from canton.text.generate import TextGenerator, generate
from canton.text.likelihood import Scored, bits_per_byte, surprisals
from canton.text.model import ByteModel
from canton.text.ngram.history import PrefetchedHistory
from canton.text.ngram.table import count_ngrams
from canton.text.progress import Progress
from canton.text.score import Totals, score
from canton.text.sources import map_file
from canton.text.train import Trained, make_optimizer, next_byte_loss, train

__all__ = [
    "ARTICLE",
    "Adapter",
    "Architecture",
    "Batch",
    "ByteModel",
    "ContiguousBatches",
    "Corpus",
    "ModelFile",
    "PrefetchedHistory",
    "Progress",
    "Sampling",
    "Scored",
    "TextGenerator",
    "Totals",
    "TrainConfig",
    "Trained",
    "bits_per_byte",
    "compress",
    "count_ngrams",
    "decompress",
    "generate",
    "load_model",
    "make_optimizer",
    "map_file",
    "next_byte_loss",
    "save_model",
    "score",
    "surprisals",
    "train",
]
