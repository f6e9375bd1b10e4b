//! The synchronisation primitives of the breaker, in one place so that the feature `loom` can put the model checker's
//! in their stead. Ownership stays with `std::sync::Arc`: reference counts are not what is modelled.

#[cfg(feature = "loom")]
pub(super) use loom::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};
#[cfg(not(feature = "loom"))]
pub(super) use std::sync::{
    Mutex, MutexGuard,
    atomic::{AtomicU64, Ordering},
};

/// A small number that differs between threads that run side by side; it only spreads them over the stripes and
/// has no influence on any result.
#[cfg(not(feature = "loom"))]
pub(super) fn thread_number() -> usize {
    use std::sync::atomic::AtomicUsize;
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    MINE.try_with(|mine| *mine).unwrap_or(0)
}

/// Under the model all threads share stripe 0 unless a test names another one.
#[cfg(feature = "loom")]
pub(super) fn thread_number() -> usize {
    0
}
