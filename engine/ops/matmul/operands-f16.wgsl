// Two f16 in a word, the first in its low half.
fn leftOne(at: u32) -> f32 { return unpack2x16float(left[at / 2u])[at % 2u]; }
fn rightOne(at: u32) -> f32 { return unpack2x16float(right[at / 2u])[at % 2u]; }
