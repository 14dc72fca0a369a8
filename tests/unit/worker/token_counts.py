#!/usr/bin/env python3
"""Makes token_counts.json: texts with the numbers of tokens that the reference implementation counts in them.
token_counts.py VOCABULARIES > token_counts.json     (needs tiktoken; VOCABULARIES is build/vocabulary)"""

import base64
import json
import random
import sys
import unicodedata
from pathlib import Path

import tiktoken

SEED, MIXED, FOREIGN = 7, 220, 120
O200K = "|".join((
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n/]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"))
CL100K = (r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++$|\s*[\r\n]"
          r"|\s+(?!\S)|\s")

WRITTEN = [
    "", "a", " ", "\n", "Hello, world!", "The relay counts what it passes on, and settles when the stream has ended.",
    "It's the tenant's key; they're sure WE'LL see, I'd say you've HE'S'T.", "HTTPServer parsesJSONBody via getElementById",
    "Prices: 1,234.56 USD, 0.000001 a token, 2026-11-21T13:08:00Z, +49 30 1234567, 0xDEADBEEF",
    "Wer zählt, der weiß: Die Größe des Puffers ist begrenzt, und das Übermaß wird abgewiesen.",
    "Où sont passés les jetons ? L’œuvre n’est pas finie, c’est évident.",
    "El año pasado, ¿cuántos niños corrieron más rápido?", "Zażółć gęślą jaźń", "Việc đếm từ không hề dễ dàng",
    "Сколько стоит один токен? Объём ответа ограничен.", "Το όριο των αιτημάτων ξεπεράστηκε.",
    "今天的天气很好，我们去公园散步吧。数据已经写入账本。", "請求已被拒絕：額度不足。", "東京の天気は晴れです。ログを確認してください！",
    "요청이 거부되었습니다. 한도를 확인하세요.", "كم عدد الرموز في هذا النص؟ ١٢٣٤٥", "כמה אסימונים יש כאן?",
    "यह पाठ कितने टोकन का है? १२३", "எத்தனை சொற்கள் உள்ளன?", "ข้อความนี้มีกี่โทเค็นและใช้เวลานานเท่าไรในการนับทั้งหมด",
    "👩‍👩‍👧‍👦 🇩🇪 👍🏽 ❤️ ok 😀😀😀", "e\u0301 a\u0308 \u1e9e \u01c5 \u02b0h x\u00b2 ½ Ⅷ", "\u00a0\u3000 \u2028\u2029tail\u0085",
    "int main(void) {\n    for (int i = 0; i < 10; i++) {\n        printf(\"%d\\n\", i);\n    }\n    return 0;\n}\n",
    "def f(x):\n\treturn {k: v for k, v in x.items() if v is not None}\n\n\n# done\n",
    "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"Hi\\n\"}],\"n\":1,\"stop\":null}",
    "# Title\n\n- one\n- two\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```sh\n./run --all\n```\n",
    "https://example.org/a/b?c=d&e=%20f#g ../../x//y\n//z\r\n\r\n\t\t end  ", "....!!!???---===>>>///", " '  's 'S 'll x'LL 'r 're",
    "QWxhZGRpbjpvcGVuIHNlc2FtZQ== MDEyMzQ1Njc4OWFiY2RlZg==", "ab12cd345ef6789", "  leading and trailing   \n  \n",
]
WORDS = ["a", "B", "é", "É", "ǅ", "ʰ", "語", "한", "ไ", "ท", "ี", "\u0301", "1", "²", "٣", " ", "  ", "\t", "\n", "\r\n", "\u00a0",
         "\u3000", "'", "'s", "'LL", "'re", "/", "//", ".", "!!", "😀", "—", "_", "{\"", "\x1c", "the", " of", " relay", "ing", "42"]


def vocabulary(folder, name, pattern):
    lines = (Path(folder) / f"{name}_base.tiktoken").read_bytes().split(b"\n")
    ranks = {base64.b64decode(token): int(rank) for token, rank in (line.split() for line in lines if line)}
    return tiktoken.Encoding(name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={})


def texts():
    random.seed(SEED)
    assigned = [chr(point) for point in range(0x80, 0x20000)
                if unicodedata.category(chr(point)) not in ("Cn", "Co", "Cs")]
    yield from WRITTEN
    for _ in range(MIXED):
        yield "".join(random.choice(WORDS) for _ in range(random.randint(1, 40)))
    for _ in range(FOREIGN):
        yield "".join(random.choice(assigned) for _ in range(random.randint(1, 16)))
    for unit in (" ", "a", "\n", "!", "ab", "1", "ก", "語", "\t ", "A"):
        for bytes_long in (7, 100, 400):
            yield unit * (bytes_long // len(unit.encode())) + "x"


def main():
    encodings = [vocabulary(sys.argv[1], "o200k", O200K), vocabulary(sys.argv[1], "cl100k", CL100K)]
    lines = [json.dumps([text] + [len(encoding.encode_ordinary(text)) for encoding in encodings]) for text in texts()]
    print("[" + ",\n".join(lines) + "]")


if __name__ == "__main__":
    main()
