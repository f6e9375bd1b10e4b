//! The program from outside: its operations port, what its commands print, and by which code they end.

#[cfg(test)]
mod commands;
#[cfg(test)]
mod operations;
#[cfg(test)]
mod support;
