"""The nano policy's tokenizer: bytes, a few hundred frequent words, and Qwen's control tokens."""

from collections import Counter
from collections.abc import Iterable
from string import ascii_uppercase

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

PAD = "<|endoftext|>"
END_OF_TURN = "<|im_end|>"
IMAGE = "<|image_pad|>"
VIDEO = "<|video_pad|>"
CONTROL_TOKENS = (PAD, "<|im_start|>", END_OF_TURN, "<|vision_start|>", "<|vision_end|>", IMAGE, VIDEO)
# Ordinary tokens, not control tokens: a decoded response must show them, whatever is skipped.
REASONING_TOKENS = ("<think>", "</think>")

_MIN_COUNT = 30  # how often a piece must occur to be a token of its own

# Words with their leading space, single digits, runs of punctuation (so that `":"` is one piece), line ends.
_PIECES = r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"
_SPACE = "Ġ"  # how byte-level tokenizers write a blank

# One turn of the user, images first as `prompts.render_chat` sends them, then the assistant's.
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' or 'image' in part or 'image_url' in part %}"
    "<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in part %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def train_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the most frequent whole pieces of `texts`, and single characters for all else.

    What is printed on a page is spelled character by character: a token is then always in one place of the image, which
    makes copying far easier to learn than with syllables. A blank and the capital behind it are one token.
    """
    split = pre_tokenizers.Split(Regex(_PIECES), behavior="isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    pieces = pre_tokenizers.Sequence([split, to_bytes])
    counts = Counter(piece for text in texts for piece, _ in pieces.pre_tokenize_str(text))
    merges = [(_SPACE, capital) for capital in ascii_uppercase]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet()) + [_SPACE + capital for capital in ascii_uppercase]
    words = sorted(piece for piece, count in counts.items() if count >= _MIN_COUNT and piece not in letters)
    tokens = [*CONTROL_TOKENS, *letters, *words]
    # `ignore_merges`: a piece that is a token is taken whole, any other is spelled by the merges.
    bpe = models.BPE(vocab={token: index for index, token in enumerate(tokens)}, merges=merges, ignore_merges=True)
    tokenizer = Tokenizer(bpe)
    tokenizer.pre_tokenizer = pieces
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in CONTROL_TOKENS])
    tokenizer.add_tokens([AddedToken(token, normalized=False, special=False) for token in REASONING_TOKENS])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TURN,
        pad_token=PAD,
        additional_special_tokens=[token for token in CONTROL_TOKENS if token not in (PAD, END_OF_TURN)],
        chat_template=CHAT_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=1024,
    )
