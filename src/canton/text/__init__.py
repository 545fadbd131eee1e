"""Bytes: a corpus, a model that guesses the next one, and what can be done with it.

from pathlib import Path
from canton.text import generate, load_model, train

train(Path("model.safetensors"), minutes=2)
model = load_model(Path("model.safetensors")).model
print(b"".join(generate(model, 600)).decode())
"""

from canton.text.adapt import Adapter
from canton.text.corpus import Corpus, map_file
from canton.text.generation import generate
from canton.text.learning import Trained, train
from canton.text.model import ARTICLE, Architecture, ByteModel
from canton.text.modelfile import ModelFile, load_model, save_model
from canton.text.scoring import Totals, score
from canton.text.surprisal import Scored, bits_per_byte, surprisals
from canton.text.watch import Progress

__all__ = [
    "ARTICLE",
    "Adapter",
    "Architecture",
    "ByteModel",
    "Corpus",
    "ModelFile",
    "Progress",
    "Scored",
    "Totals",
    "Trained",
    "bits_per_byte",
    "generate",
    "load_model",
    "map_file",
    "save_model",
    "score",
    "surprisals",
    "train",
]
