//! The AI service over real TLS, on a simulated machine, with a backend whose answers are known. Real models answer in the tests of
//! `tacit-inference` and of the command line.

mod amd;
pub mod echo;
mod exchanges;
mod node;
mod sealing;
