//! One named refusal per check.
