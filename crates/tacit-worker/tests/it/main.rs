//! Workers in a whole network: simulated machines, four gatekeepers, a local chain, a gateway, and the client of everybody.

mod calls;
mod chain;
mod failures;
mod network;
mod take_over;
