//! Faults by name of the step, and by its number.

use async_trait::async_trait;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use test_support::{Fault, Faults, NoFaults, Site};
use tokio::sync::Notify;

/// Strikes the first calls of one step.
pub(crate) struct Strike {
    site: Site,
    fault: Fault,
    spared: usize,
    left: AtomicUsize,
    met: AtomicUsize,
}

/// The first `times` calls of `call` in the transaction `within` meet `fault` instead of taking effect.
pub(crate) fn strike(within: &'static str, call: &'static str, times: usize, fault: Fault) -> Arc<Strike> {
    strike_after(0, within, call, times, fault)
}

/// The same after the first `spared` calls.
pub(crate) fn strike_after(
    spared: usize,
    within: &'static str,
    call: &'static str,
    times: usize,
    fault: Fault,
) -> Arc<Strike> {
    let site = Site { within, call };
    let (left, met) = (AtomicUsize::new(times), AtomicUsize::new(0));
    Arc::new(Strike { site, fault, spared, left, met })
}

/// Every step takes a millisecond, so that things really come together: programs at one database, members in one batch.
pub(crate) struct Slow(pub(crate) Arc<dyn Faults>);

/// The first call of a step takes so long: what comes meanwhile waits behind it.
pub(crate) struct Stalled {
    pub(crate) site: Site,
    pub(crate) takes: Duration,
    pub(crate) over: AtomicBool,
    pub(crate) then: Arc<dyn Faults>,
}

pub(crate) fn stalled(
    within: &'static str,
    call: &'static str,
    takes: Duration,
    then: Arc<dyn Faults>,
) -> Arc<Stalled> {
    Arc::new(Stalled { site: Site { within, call }, takes, over: AtomicBool::new(false), then })
}

#[async_trait]
impl Faults for Stalled {
    async fn before(&self, site: Site) -> Fault {
        if site == self.site && !self.over.swap(true, Ordering::Relaxed) {
            tokio::time::sleep(self.takes).await;
        }
        self.then.before(site).await
    }

    async fn after(&self, site: Site) -> Fault {
        self.then.after(site).await
    }
}

pub(crate) fn slow() -> Arc<dyn Faults> {
    Arc::new(Slow(Arc::new(NoFaults)))
}

#[async_trait]
impl Faults for Slow {
    async fn before(&self, site: Site) -> Fault {
        tokio::time::sleep(Duration::from_millis(1)).await;
        self.0.before(site).await
    }

    async fn after(&self, site: Site) -> Fault {
        self.0.after(site).await
    }
}

impl Strike {
    /// How often the step was tried, struck or not.
    pub(crate) fn met(&self) -> usize {
        self.met.load(Ordering::Relaxed)
    }
}

#[async_trait]
impl Faults for Strike {
    async fn before(&self, site: Site) -> Fault {
        if site != self.site {
            return Fault::None;
        }
        if self.met.fetch_add(1, Ordering::Relaxed) < self.spared {
            return Fault::None;
        }
        let take = |left: usize| left.checked_sub(1);
        let struck = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if struck { self.fault } else { Fault::None }
    }
}

/// What happens at one step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Harm {
    /// It does not take effect, and the caller is told that the database (or the gateway) is out of reach.
    FailBefore,
    /// It takes effect, but the caller is told the same.
    FailAfter,
    /// A deadlock was broken by it.
    Conflict,
    /// Nothing more happens: the process died before it.
    CrashBefore,
    /// Or after it.
    CrashAfter,
    /// The process stands still there until it is let go.
    Freeze,
}

impl Harm {
    pub(crate) const ALL: [Harm; 6] = [
        Harm::FailBefore,
        Harm::FailAfter,
        Harm::Conflict,
        Harm::CrashBefore,
        Harm::CrashAfter,
        Harm::Freeze,
    ];
}

/// Counts the steps of a run, and harms one of them.
pub(crate) struct Injector {
    target: Option<(usize, Harm)>,
    /// The steps that began, and whether they ended.
    sites: Mutex<Vec<(Site, bool)>>,
    /// The target was reached.
    pub(crate) reached: Notify,
    /// The task that reached it, when it was a task of its own.
    pub(crate) reached_by: Mutex<Option<tokio::task::Id>>,
    /// Lets a frozen process go on.
    pub(crate) resume: Notify,
}

impl Injector {
    pub(crate) fn new(target: Option<(usize, Harm)>) -> Arc<Self> {
        Arc::new(Self {
            target,
            sites: Mutex::default(),
            reached: Notify::new(),
            reached_by: Mutex::default(),
            resume: Notify::new(),
        })
    }

    /// The steps so far, in order.
    pub(crate) fn sites(&self) -> Vec<Site> {
        self.sites.lock().unwrap().iter().map(|(site, _)| *site).collect()
    }

    async fn dead(&self) -> Fault {
        *self.reached_by.lock().unwrap() = tokio::task::try_id();
        self.reached.notify_one();
        std::future::pending().await
    }
}

#[async_trait]
impl Faults for Injector {
    async fn before(&self, site: Site) -> Fault {
        let at = {
            let mut sites = self.sites.lock().unwrap();
            sites.push((site, false));
            sites.len() - 1
        };
        match self.target {
            Some((target, Harm::FailBefore)) if target == at => Fault::Unavailable,
            Some((target, Harm::Conflict)) if target == at => Fault::Conflict,
            Some((target, Harm::CrashBefore)) if target == at => self.dead().await,
            Some((target, Harm::Freeze)) if target == at => {
                self.reached.notify_one();
                self.resume.notified().await;
                Fault::None
            }
            _ => Fault::None,
        }
    }

    async fn after(&self, site: Site) -> Fault {
        // Steps that never end failed; of those of one site that are under way at once, the one that began last.
        let at = {
            let mut sites = self.sites.lock().unwrap();
            let at = sites.iter().rposition(|(began, ended)| *began == site && !ended).unwrap();
            sites[at].1 = true;
            at
        };
        match self.target {
            Some((target, Harm::FailAfter)) if target == at => Fault::Unavailable,
            Some((target, Harm::CrashAfter)) if target == at => self.dead().await,
            _ => Fault::None,
        }
    }
}
