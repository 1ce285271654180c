//! The JavaScript image that this crate was built with.

/// The component.
pub(crate) const JAVASCRIPT: &[u8] = include_bytes!(env!("TACIT_JS_PATH"));

/// SHA-256 of the JavaScript image as lower-case hex; the build has checked it.
pub const fn digest() -> &'static str {
    env!("TACIT_JS_DIGEST")
}
