//! Look-ups that pass over all entries. No branch and no address depends on what is looked for, only on how much there is.
//!
//! A comparison becomes a mask, and what does not match is cut to zero. Compilers turn masks back into branches where they see through
//! them, so masks are hidden from the compiler: each ([`mask`]), or in long scans those of [`LANES`] numbers at once ([`masks`]), which
//! leaves it its vector instructions. Whether that is enough is seen by valgrind, in a test of this folder.

use std::hint::black_box;

/// Numbers that are compared together.
pub(super) const LANES: usize = 8;

/// All ones or all zeros; the compiler is not told which are possible.
#[inline]
pub(super) fn mask(is: bool) -> u32 {
    black_box(u32::from(is)).wrapping_neg()
}

/// Masks of a group, by place.
#[inline]
pub(super) fn masks(is: impl Fn(usize) -> bool) -> [u32; LANES] {
    black_box(std::array::from_fn(|place| u32::from(is(place)).wrapping_neg()))
}

/// Adds to a group what masks leave of another.
#[inline]
pub(super) fn add(found: &mut [u32; LANES], masks: &[u32; LANES], group: &[u32; LANES]) {
    for ((found, mask), number) in found.iter_mut().zip(masks).zip(group) {
        *found |= mask & number;
    }
}

/// The places of the next group.
#[inline]
pub(super) fn next(places: &mut [u32; LANES]) {
    for place in places {
        *place = place.wrapping_add(LANES as u32);
    }
}

/// One of two numbers.
#[inline]
pub(super) fn select(mask: u32, one: u32, other: u32) -> u32 {
    (one & mask) | (other & !mask)
}

/// Numbers in groups, for long scans.
#[derive(Debug, Default)]
pub(super) struct Column(Vec<[u32; LANES]>);

impl Column {
    /// These numbers; the last group is filled up with `filling`.
    pub(super) fn new(numbers: &[u32], filling: u32) -> Self {
        Self(
            numbers
                .chunks(LANES)
                .map(|numbers| {
                    let mut group = [filling; LANES];
                    group[..numbers.len()].copy_from_slice(numbers);
                    group
                })
                .collect(),
        )
    }

    /// The groups.
    pub(super) fn groups(&self) -> &[[u32; LANES]] {
        &self.0
    }

    /// The number at a place; zero beyond the end, if it was filled up with zeros.
    pub(super) fn at(&self, place: u32) -> u32 {
        let mut found = [0; LANES];
        let mut places = PLACES;
        for group in &self.0 {
            add(&mut found, &masks(|lane| places[lane] == place), group);
            next(&mut places);
        }
        together(found)
    }
}

/// Places of the first group.
pub(super) const PLACES: [u32; LANES] = [0, 1, 2, 3, 4, 5, 6, 7];

/// What any of a group's numbers has.
pub(super) fn together(group: [u32; LANES]) -> u32 {
    group.into_iter().fold(0, |all, number| all | number)
}

/// The value at a place of a few; zero beyond the end.
pub(super) fn pick(values: &[u32], place: u32) -> u32 {
    (0_u32..).zip(values).fold(0, |found, (index, value)| found | (mask(index == place) & value))
}

/// Puts a value at a place of a few, if there is one.
pub(super) fn put(values: &mut [u32], place: u32, value: u32) {
    for (index, old) in (0_u32..).zip(values) {
        *old = select(mask(index == place), value, *old);
    }
}

/// Takes the value at a place out of a few: those behind it move up, `next` comes in place of the one that follows it, `filling` to
/// the end. Nothing happens for the place [`NOWHERE`].
pub(super) fn close(values: &mut [u32], place: u32, next: u32, filling: u32) {
    for index in 1..values.len() {
        let number = index as u32;
        let moved = select(mask(number == place.wrapping_add(1)), next, values[index]);
        values[index - 1] = select(mask(number > place), moved, values[index - 1]);
    }
    if let Some(last) = values.last_mut() {
        *last = select(mask(place != NOWHERE), filling, *last);
    }
}

/// A place that nothing has.
pub(super) const NOWHERE: u32 = u32::MAX;

/// The place of the lowest of a few, of several such the first; [`NOWHERE`] if all are the greatest number.
pub(super) fn lowest(values: &[u32]) -> u32 {
    let (mut lowest, mut place) = (u32::MAX, NOWHERE);
    for (index, value) in (0_u32..).zip(values) {
        let is_lower = mask(*value < lowest);
        lowest = select(is_lower, *value, lowest);
        place = select(is_lower, index, place);
    }
    place
}

/// The place of the highest value, of several such the first; none without any above negative infinity.
pub(crate) fn highest(values: &[f32]) -> Option<u32> {
    let (groups, rest) = values.as_chunks::<LANES>();
    let (mut highest, mut place, mut places) = ([f32::NEG_INFINITY; LANES], [NOWHERE; LANES], PLACES);
    for group in groups {
        let is_higher = masks(|lane| group[lane] > highest[lane]);
        for lane in 0..LANES {
            let value = select(is_higher[lane], group[lane].to_bits(), highest[lane].to_bits());
            highest[lane] = f32::from_bits(value);
            place[lane] = select(is_higher[lane], places[lane], place[lane]);
        }
        next(&mut places);
    }
    let of_lanes = highest.iter().copied().zip(place);
    let of_rest = rest.iter().copied().zip(places);
    let (mut highest, mut place) = (f32::NEG_INFINITY, NOWHERE);
    for (value, of_value) in of_lanes.chain(of_rest) {
        let is_equal = mask(value == highest) & mask(value > f32::NEG_INFINITY);
        let is_first = mask(value > highest) | (is_equal & mask(of_value < place));
        highest = f32::from_bits(select(is_first, value.to_bits(), highest.to_bits()));
        place = select(is_first, of_value, place);
    }
    (place != NOWHERE).then_some(place)
}

/// Whether a number is among a few.
pub(super) fn contains(values: &[u32], number: u32) -> u32 {
    values.iter().fold(0, |found, value| found | mask(*value == number))
}

/// Whether a number lies in one of these ranges, whose ends belong to them.
pub(super) fn within(first: &Column, last: &Column, number: u32) -> u32 {
    let mut found = [0; LANES];
    for (first, last) in first.groups().iter().zip(last.groups()) {
        add(&mut found, &masks(|lane| first[lane] <= number), &masks(|lane| number <= last[lane]));
    }
    together(found)
}

/// Whether two runs of bytes of one length are the same.
pub(super) fn same(one: &[u8], other: &[u8]) -> u32 {
    let differs = one.iter().zip(other).fold(0, |differs, (one, other)| differs | (one ^ other));
    mask(differs == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scans_find_what_an_index_finds() {
        for length in 0..20 {
            let values: Vec<u32> = (0..length).map(|value| value * 7 + 1).collect();
            let column = Column::new(&values, 0);
            for (index, value) in (0..).zip(&values) {
                assert_eq!((pick(&values, index), column.at(index)), (*value, *value));
                assert_ne!(contains(&values, *value), 0);
            }
            assert_eq!((pick(&values, length), column.at(length), column.at(NOWHERE)), (0, 0, 0));
            assert_eq!(contains(&values, 3), 0);
        }
        let (first, last) = (Column::new(&[3, 10], 1), Column::new(&[3, 20], 0));
        let inside: Vec<u32> = (0..30).filter(|number| within(&first, &last, *number) != 0).collect();
        assert_eq!(inside, [3].into_iter().chain(10..=20).collect::<Vec<_>>());
        assert!(same(b"123", b"123") != 0 && same(b"123", b"124") == 0);
    }

    #[test]
    fn the_lowest_and_the_highest_are_the_first_of_theirs() {
        assert_eq!(lowest(&[9, 3, u32::MAX, 3]), 1);
        assert_eq!((lowest(&[u32::MAX]), lowest(&[])), (NOWHERE, NOWHERE));
        assert_eq!(highest(&[f32::NAN, -1.0, 2.5, 2.5, f32::NEG_INFINITY]), Some(2));
        assert_eq!(highest(&[f32::NAN, f32::NEG_INFINITY]), None);
        for length in 1..40 {
            let values: Vec<f32> = (0..length).map(|value| f32::from(value * 5 % 11_u8)).collect();
            let expected = (0..values.len()).rev().max_by(|one, other| values[*one].total_cmp(&values[*other]));
            assert_eq!(highest(&values), expected.map(|place| place as u32), "{values:?}");
        }
    }

    #[test]
    fn what_is_taken_out_closes_up() {
        let closed = |place| {
            let mut values = [1, 2, 3, 4];
            close(&mut values, place, 9, 0);
            values
        };
        assert_eq!(closed(0), [9, 3, 4, 0]);
        assert_eq!(closed(2), [1, 2, 9, 0]);
        assert_eq!(closed(3), [1, 2, 3, 0]);
        assert_eq!(closed(NOWHERE), [1, 2, 3, 4]);
        let mut values = [1, 2];
        put(&mut values, 1, 7);
        put(&mut values, NOWHERE, 8);
        assert_eq!(values, [1, 7]);
    }
}
