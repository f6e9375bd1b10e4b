//! The simulation's gateway, as a program of the simulation sees it.

use crate::driver::{Driver, LookUpFault, Manners, RequestFault};
use adapters_pg::transport::Transport;
use domain::GatewayKey;
use sim::gateway::{CALLBACK_PREFIX, ModelTransport};
use sim::kinds::Kind;
use sim::plan::Plan;
use sim::process::{Process, Role};
use sim::world::{World, lock};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub(crate) struct Model {
    world: Arc<World>,
    transport: ModelTransport,
}

/// The kind of fault that gives a gateway such manners.
const fn kind(manners: Manners) -> Option<Kind> {
    use LookUpFault::{Error, False404, Hang};
    use RequestFault::{
        BadGateway, Create500, Create503, Garbage, HangCreated, HangLost, Http429, Http500, Http503,
        ResetCreated, ResetLost,
    };
    Some(match manners {
        Manners::Documented | Manners::Obedient => return None,
        Manners::Undecided => Kind::StuckPending,
        Manners::Request(Http500) => Kind::Http500,
        Manners::Request(Create500) => Kind::Create500,
        Manners::Request(Http503) => Kind::Http503,
        Manners::Request(Create503) => Kind::Create503,
        Manners::Request(Http429) => Kind::Http429,
        Manners::Request(BadGateway) => Kind::HttpBadGateway,
        Manners::Request(Garbage) => Kind::Garbage,
        Manners::Request(ResetLost) => Kind::ResetLost,
        Manners::Request(ResetCreated) => Kind::ResetCreated,
        Manners::Request(HangLost) => Kind::HangLost,
        Manners::Request(HangCreated) => Kind::HangCreated,
        Manners::LookUp(Error) => Kind::LookupError,
        Manners::LookUp(Hang) => Kind::LookupHang,
        Manners::LookUp(False404) => Kind::LookupFalse404,
        Manners::DecidedAtOnce => Kind::DirectStatus,
        Manners::WrongAmount => Kind::AmountDelta,
        Manners::KeyReused => Kind::KeyReuse,
        Manners::CallbackLost => Kind::CallbackLost,
        Manners::CallbackRepeated => Kind::CallbackTwice,
    })
}

impl Driver for Model {
    async fn start(manners: Manners) -> Self {
        let mut plan = Plan::new(7).only(&kind(manners).into_iter().collect::<BTreeSet<_>>());
        plan.aim = None;
        // Whenever it can.
        (plan.intensity, plan.most) = (1_000_000, 1000);
        if manners != Manners::Documented {
            plan.ordinary_500 = 0;
        }
        let world = World::new(plan, false);
        let transport =
            ModelTransport::new(Arc::downgrade(&world), Process::new("app0".to_owned(), Role::App, 1));
        Self { world, transport }
    }

    fn transport(&self) -> &dyn Transport {
        &self.transport
    }

    fn callback_base(&self) -> String {
        CALLBACK_PREFIX.to_owned()
    }

    fn told(&self) -> Vec<(GatewayKey, String)> {
        lock(&self.world.gateway).told().to_vec()
    }

    fn wipe(&self) {
        lock(&self.world.gateway).wipe(Instant::now());
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(600)
    }
}
