//! Rate limits per buyer and per address: a token bucket each (GCRA, by the `governor` crate), in this process's memory.
//!
//! Several servers side by side each have their own buckets: the limit of the whole is theirs added up.

use crate::http::failure::{Case, Failure};
use bootstrap::settings::RateLimitSettings;
use domain::UserId;
use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Buckets that are full again are thrown away once in so many requests, so that memory follows the present callers.
const SWEEP_EVERY: u32 = 4096;

/// The limits that are set; without any nothing is counted.
#[derive(Clone)]
pub(crate) struct Limiter {
    users: Option<Arc<Buckets<UserId>>>,
    addresses: Option<Arc<Buckets<IpAddr>>>,
}

impl Limiter {
    /// The limits of the settings; a rate of 0 is no limit.
    pub(crate) fn new(settings: &RateLimitSettings) -> Self {
        Self {
            users: Buckets::new(settings.user_per_second, settings.user_burst),
            addresses: Buckets::new(settings.address_per_second, settings.address_burst),
        }
    }

    /// Counts one request of a buyer.
    pub(crate) fn check_user(&self, user: UserId) -> Result<(), Failure> {
        self.users.as_ref().map_or(Ok(()), |buckets| buckets.check(&user))
    }

    /// Counts one request of an address. An IPv6 client has a whole /64 for itself, so that is what is counted.
    pub(crate) fn check_address(&self, address: IpAddr) -> Result<(), Failure> {
        let key = match address.to_canonical() {
            IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
            v4 => v4,
        };
        self.addresses.as_ref().map_or(Ok(()), |buckets| buckets.check(&key))
    }
}

struct Buckets<K: Hash + Eq + Clone> {
    limiter: DefaultKeyedRateLimiter<K>,
    clock: DefaultClock,
    until_sweep: AtomicU32,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    fn new(per_second: u32, burst: u32) -> Option<Arc<Self>> {
        let quota = Quota::per_second(NonZeroU32::new(per_second)?).allow_burst(NonZeroU32::new(burst)?);
        Some(Arc::new(Self {
            limiter: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            until_sweep: AtomicU32::new(0),
        }))
    }

    fn check(&self, key: &K) -> Result<(), Failure> {
        if self.until_sweep.fetch_add(1, Ordering::Relaxed) % SWEEP_EVERY == SWEEP_EVERY - 1 {
            self.limiter.retain_recent();
            self.limiter.shrink_to_fit();
        }
        self.limiter.check_key(key).map_err(|until| {
            Failure::new(Case::RateLimited).retry_after(until.wait_time_from(self.clock.now()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(user: u32, address: u32) -> Limiter {
        Limiter::new(&RateLimitSettings {
            user_per_second: user,
            user_burst: 2,
            address_per_second: address,
            address_burst: 2,
        })
    }

    #[test]
    fn each_buyer_and_each_address_has_a_bucket_of_its_own() {
        let limiter = limiter(1, 1);
        let (one, two) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        assert!(limiter.check_user(one).is_ok() && limiter.check_user(one).is_ok());
        let refused = limiter.check_user(one).unwrap_err();
        assert_eq!((refused.case(), refused.retry_after_seconds()), (Case::RateLimited, Some(1)));
        assert!(limiter.check_user(two).is_ok());

        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(limiter.check_address(address("2001:db8::1")).is_ok());
        assert!(limiter.check_address(address("2001:db8::2")).is_ok());
        assert!(limiter.check_address(address("2001:db8::3")).is_err(), "one /64 is one client");
        assert!(limiter.check_address(address("2001:db8:0:1::1")).is_ok());
    }

    #[test]
    fn no_rate_is_no_limit() {
        let limiter = limiter(0, 0);
        for _ in 0..10_000 {
            assert!(limiter.check_user(UserId::new(1).unwrap()).is_ok());
            assert!(limiter.check_address(IpAddr::from([127, 0, 0, 1])).is_ok());
        }
    }
}
