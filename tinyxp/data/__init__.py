"""Text in, batches of tokens out."""

from tinyxp.data._ahead import Ahead as Ahead
from tinyxp.data._bpe import BPETokenizer as BPETokenizer
from tinyxp.data._byte import ByteTokenizer as ByteTokenizer
from tinyxp.data._char import CharTokenizer as CharTokenizer
from tinyxp.data._dataset import TokenDataset as TokenDataset
from tinyxp.data._default import default_text as default_text
from tinyxp.data._tokenizer import Tokenizer as Tokenizer
from tinyxp.data._tokenizer import load_tokenizer as load_tokenizer

__all__ = [
    "Ahead",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "TokenDataset",
    "Tokenizer",
    "default_text",
    "load_tokenizer",
]
