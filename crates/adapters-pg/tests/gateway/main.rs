//! The guarded gateway from outside: its rules in virtual time over a model transport, and its outcomes over real sockets.

#[cfg(test)]
mod charge;
#[cfg(test)]
mod edges;
#[cfg(test)]
mod half_open;
#[cfg(test)]
mod load;
#[cfg(test)]
mod lookup;
#[cfg(test)]
mod model;
#[cfg(test)]
mod observed;
#[cfg(test)]
mod sockets;
