#![doc = include_str!("../README.md")]
#![cfg(target_arch = "wasm32")]
// The only unsafe code of the verifier: bytes cross the boundary of the module as addresses and lengths.
#![allow(unsafe_code)]

use std::{alloc::Layout, slice};

/// Longest question, in bytes: the largest bundle with its deployment, and evidence with its collateral, fit well.
const MAX_QUESTION: usize = 16 << 20;

/// Nothing in a verifier draws random numbers. A library below links a source all the same: this one has none to give.
fn no_randomness(_: &mut [u8]) -> Result<(), getrandom_02::Error> {
    Err(getrandom_02::Error::UNSUPPORTED)
}
getrandom_02::register_custom_getrandom!(no_randomness);

/// Reserves `length` bytes for a question and gives their address; 0 if it is too long.
#[unsafe(no_mangle)]
pub extern "C" fn tacit_reserve(length: usize) -> usize {
    match Layout::array::<u8>(length) {
        // SAFETY: the size is not zero. The memory is zeroed, so that reading it is defined whatever the caller wrote.
        Ok(layout) if (1..=MAX_QUESTION).contains(&length) => (unsafe { std::alloc::alloc_zeroed(layout) }) as usize,
        _ => 0,
    }
}

/// Gives back `length` bytes at `address` that [`tacit_reserve`] or [`tacit_verify`] gave.
///
/// # Safety
/// Address and length are those that were given, and are given back once.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tacit_release(address: usize, length: usize) {
    if let Ok(layout) = Layout::array::<u8>(length)
        && address != 0
        && length != 0
    {
        // SAFETY: by the caller's promise this block was allocated with this layout.
        unsafe { std::alloc::dealloc(address as *mut u8, layout) }
    }
}

/// Answers the question in JSON at `address` with a report in JSON: its address in the upper, its length in the lower 32 bits.
///
/// # Safety
/// `address` and `length` are of one block that [`tacit_reserve`] gave.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn tacit_verify(address: usize, length: usize) -> u64 {
    // SAFETY: by the caller's promise; `tacit_reserve` initialised the block.
    let question = if address == 0 { &[] } else { unsafe { slice::from_raw_parts(address as *const u8, length) } };
    let report = Box::leak(tacit_verify::verify_json(question).into_boxed_slice());
    ((report.as_ptr() as u64) << 32) | report.len() as u64
}
