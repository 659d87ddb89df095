"""The compiled loops of `deconv.formats.fields`, over the bytes of a block of lines.

Fields are given by where they begin and end; results are written into the last argument.
"""

from typing import no_type_check

import numpy as np

from deconv.compiled.loops import compiled_loop

_MAX_DIGITS = 10

# `no_type_check` keeps the shape checks of the tests out of what numba compiles.


@no_type_check
@compiled_loop()
def cut(text, slot, spaces, begin, end, start, n_fields):
    """Find the fields of all lines: of column i, begin and end into row slot[i] >= 0."""
    line, column, field, line_start = 0, 0, 0, 0
    for i in range(len(text)):
        letter = text[i]
        if letter != 9 and letter != 10 and not (spaces and letter == 32):
            continue
        if column < len(slot) and slot[column] >= 0:
            begin[slot[column], line] = field
            stop = i
            if letter == 10 and i > field and text[i - 1] == 13:
                stop = i - 1  # a Windows line end
            end[slot[column], line] = stop
        column += 1
        field = i + 1
        if letter == 10:
            start[line] = line_start
            n_fields[line] = column
            line += 1
            column = 0
            line_start = field


@no_type_check
@compiled_loop()
def read_integers(text, begin, end, values):
    """Read whole numbers of up to 10 digits; -1 where there is none."""
    for line in range(len(values)):
        n_digits = end[line] - begin[line]
        value = 0
        if n_digits < 1 or n_digits > _MAX_DIGITS:
            value = -1
        else:
            for i in range(begin[line], end[line]):
                digit = text[i] - 48  # of "0"
                if digit < 0 or digit > 9:
                    value = -1
                    break
                value = 10 * value + digit
        values[line] = value


@no_type_check
@compiled_loop()
def read_decimals(text, begin, end, values):
    """Read numbers such as 12.5; NaN where there is none."""
    for line in range(len(values)):
        value, scale, n_digits, in_fraction, is_number = 0.0, 1.0, 0, False, True
        for i in range(begin[line], end[line]):
            digit = text[i] - 48
            if 0 <= digit <= 9:
                n_digits += 1
                value = 10 * value + digit
                if in_fraction:
                    scale *= 10
            elif text[i] == 46 and not in_fraction:
                in_fraction = True
            else:
                is_number = False
                break
        # More digits than the powers of ten that are exact: no tool writes them.
        values[line] = value / scale if is_number and 0 < n_digits <= 22 else np.nan


@no_type_check
@compiled_loop()
def find_words(text, begin, end, letters, stop, found):
    """Find which of the words, joined in ``letters``, each field is; -1 for another."""
    for line in range(len(found)):
        length = end[line] - begin[line]
        found[line] = -1
        word_start = 0
        for word in range(len(stop)):
            if stop[word] - word_start == length:
                same = True
                for i in range(length):
                    if text[begin[line] + i] != letters[word_start + i]:
                        same = False
                        break
                if same:
                    found[line] = word
                    break
            word_start = stop[word]


@no_type_check
@compiled_loop()
def find_changes(text, begin, end, is_new):
    """Tell whether each field differs from that of the line before."""
    for line in range(len(is_new)):
        length = end[line] - begin[line]
        is_new[line] = line == 0 or end[line - 1] - begin[line - 1] != length
        if not is_new[line]:
            for i in range(length):
                if text[begin[line] + i] != text[begin[line - 1] + i]:
                    is_new[line] = True
                    break
