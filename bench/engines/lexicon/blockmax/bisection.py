"""Compiled recursive graph bisection (Dhulipala et al., 2016, arXiv 1602.08820)."""

import numba
import numpy as np

LEAF = 16  # documents that are not divided further
ROUNDS = 20  # exchanges of each bisection, at most


@numba.njit(cache=True, nogil=True)
def _bits(degree, size):
    """About the bits of the gaps in the posting list of a lexicon in a half of `size` documents."""
    return degree * np.log2((size + 1.0) / (degree + 1.0))


@numba.njit(cache=True, nogil=True)
def bisect(indptr, lexicons, dimension, order_N, begin, end, leaf):
    """Orders the documents order_N[begin:end] in place. indptr, lexicons: CSR rows of all documents.

    A pair of documents is exchanged between the halves if that lowers the bits of all lists; each half of more than
    `leaf` documents is then divided in the same way.
    """
    spans = [(begin, end)]
    degrees_2V, gains_N = np.zeros((2, dimension)), np.empty(order_N.size)
    to_right_V, to_left_V = np.empty(dimension), np.empty(dimension)
    while len(spans):
        begin, end = spans.pop()
        if end - begin <= leaf:
            continue
        middle = (begin + end) // 2
        left, right = middle - begin, end - middle
        for _ in range(ROUNDS):
            for place in range(begin, end):
                half = 0 if place < middle else 1
                for i in range(indptr[order_N[place]], indptr[order_N[place] + 1]):
                    degrees_2V[half, lexicons[i]] += 1
                    to_right_V[lexicons[i]] = np.nan
            for place in range(begin, end):
                for i in range(indptr[order_N[place]], indptr[order_N[place] + 1]):
                    lexicon = lexicons[i]
                    if np.isnan(to_right_V[lexicon]):  # once for each lexicon of the span
                        in_left, in_right = degrees_2V[0, lexicon], degrees_2V[1, lexicon]
                        now = _bits(in_left, left) + _bits(in_right, right)
                        # a document has its own lexicons in its half: degrees stay at 0 or above where they are read
                        to_right_V[lexicon] = now - _bits(max(in_left - 1, 0), left) - _bits(in_right + 1, right)
                        to_left_V[lexicon] = now - _bits(in_left + 1, left) - _bits(max(in_right - 1, 0), right)
            for place in range(begin, end):
                gain = 0.0
                for i in range(indptr[order_N[place]], indptr[order_N[place] + 1]):
                    gain += to_right_V[lexicons[i]] if place < middle else to_left_V[lexicons[i]]
                    degrees_2V[0, lexicons[i]] = degrees_2V[1, lexicons[i]] = 0
                gains_N[place] = gain
            first = begin + np.argsort(-gains_N[begin:middle], kind="mergesort")
            second = middle + np.argsort(-gains_N[middle:end], kind="mergesort")
            exchanged = 0
            for pair in range(min(first.size, second.size)):
                a, b = first[pair], second[pair]
                if gains_N[a] + gains_N[b] <= 0:
                    break
                order_N[a], order_N[b] = order_N[b], order_N[a]
                exchanged += 1
            if not exchanged:
                break
        spans.append((begin, middle))
        spans.append((middle, end))
