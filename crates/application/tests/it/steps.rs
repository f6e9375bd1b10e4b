//! Every step of every use-case: failed there, crashed there, stopped there while another does the same. The steps are
//! not listed: a run without harm tells them, so that a new one is covered by being there. After each harm the faults
//! end, the reconciler runs over more than a day, and the oracle looks at what is left.

use crate::faults::{Harm, Injector};
use crate::gateway::{Made, Plan, Reply, made};
use crate::oracle;
use crate::world::{World, idempotency, only, secs};
use application::{Application, PlaceOrder};
use domain::settlement::TransactionStatus::{self, Failed, Success};
use domain::{OrderStatus, PaymentStatus};
use std::sync::Arc;
use test_support::{NoFaults, Site};
use tokio_util::sync::CancellationToken;

/// What is done, and in which situation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    /// An order with points, coupon and Idempotency-Key, by this reply of the gateway.
    Place(Reply, Option<TransactionStatus>),
    /// An order that points pay.
    PlaceByPoints,
    /// The callback of a transaction that ended so.
    Callback(TransactionStatus),
    /// A turn that finds a payment whose transaction ended so.
    Reconcile(TransactionStatus),
    /// A turn that finds one that the gateway never got, for the second time.
    ReconcileNone,
    /// A turn that forces one.
    ReconcileForced,
    /// A turn that finds a late success on the watch list.
    Watch,
    /// A turn that finds a late success by a callback, for a payment that nobody watches.
    WatchWoken,
}

const PLACING: [Scene; 8] = [
    Scene::Place(Reply::Accepted, Some(Success)),
    Scene::Place(Reply::Accepted, Some(Failed)),
    Scene::Place(Reply::AcceptedDecided, Some(Success)),
    Scene::Place(Reply::Uncertain, Some(Success)),
    Scene::Place(Reply::Uncertain, None),
    Scene::Place(Reply::Rejected, None),
    Scene::Place(Reply::NotReached, None),
    Scene::PlaceByPoints,
];

/// A world in which the scene's use-case has something to do.
async fn prepare(scene: Scene) -> World {
    let world = World::new().await;
    let plan = |reply, end: Option<Made>| world.gateway.plan(Plan::new(reply, end.into_iter().collect()));
    match scene {
        Scene::Place(Reply::AcceptedDecided, Some(end)) => {
            plan(Reply::AcceptedDecided, Some(Made { decided_after: secs(0), ..made(end) }));
        }
        Scene::Place(reply, end) => plan(reply, end.map(made)),
        Scene::PlaceByPoints => {
            world.app.charge_points(crate::world::buyer(), crate::world::won(100_000)).await.unwrap();
        }
        Scene::Callback(end) => {
            plan(Reply::Accepted, Some(made(end)));
            world.placed(world.command()).await;
            tokio::time::sleep(secs(5)).await;
        }
        Scene::Reconcile(end) => {
            plan(Reply::Uncertain, Some(made(end)));
            world.placed(world.command()).await;
            tokio::time::sleep(secs(70)).await;
        }
        Scene::ReconcileNone => {
            plan(Reply::Uncertain, None);
            world.placed(world.command()).await;
            world.minutes(1).await;
            tokio::time::sleep(secs(60)).await;
        }
        Scene::ReconcileForced => {
            plan(Reply::Accepted, Some(Made { decided_after: secs(900), ..made(Success) }));
            world.placed(world.command()).await;
            tokio::time::sleep(secs(330)).await;
        }
        Scene::Watch => {
            plan(Reply::Accepted, Some(Made { decided_after: secs(360), ..made(Success) }));
            world.placed(world.command()).await;
            world.minutes(5).await;
            assert_eq!(world.status(only(&world)), (PaymentStatus::Failed, OrderStatus::Cancelled));
            tokio::time::sleep(secs(70)).await;
        }
        Scene::WatchWoken => {
            plan(Reply::Rejected, None);
            let placed = world.placed(world.command()).await;
            let amount = world.record(placed).payment.amounts().paid_amount();
            let key = world.gateway.put(&world.order_ref(placed), amount, &made(Success));
            world.callback(placed, &key).await;
            tokio::time::sleep(secs(5)).await;
        }
    }
    world
}

/// The scene's use-case, once, by one program. An error is an answer: what counts is what is left.
async fn act(scene: Scene, world: &World, program: &Application) {
    match scene {
        Scene::Place(..) => {
            let command = PlaceOrder { idempotency: idempotency("k", 1), ..world.command() };
            let _answer = program.place_order(command).await;
        }
        Scene::PlaceByPoints => {
            let use_point = crate::world::won(18_000);
            let command =
                PlaceOrder { idempotency: idempotency("k", 1), use_point, card: None, ..world.command() };
            let _answer = program.place_order(command).await;
        }
        Scene::Callback(_) => {
            let placed = only(world);
            let key = crate::gateway::TestGateway::key(1);
            let stop = CancellationToken::new();
            let received = async {
                let _answer = program.receive_callback(&world.token(placed), &key).await;
                world.idle().await;
                stop.cancel();
            };
            tokio::join!(program.take_up_callbacks(&stop), received);
        }
        Scene::Reconcile(_)
        | Scene::ReconcileNone
        | Scene::ReconcileForced
        | Scene::Watch
        | Scene::WatchWoken => {
            let _turn = program.reconcile(&CancellationToken::new()).await;
        }
    }
}

/// The steps of the scene when nothing goes wrong.
async fn steps(scene: Scene) -> Vec<Site> {
    let world = prepare(scene).await;
    let injector = Injector::new(None);
    world.gateway.set_faults(injector.clone());
    act(scene, &world, &world.program(injector.clone())).await;
    world.gateway.set_faults(Arc::new(NoFaults));
    let sites = injector.sites();
    heal_and_judge(&world, scene, "no harm").await;
    sites
}

async fn heal_and_judge(world: &World, scene: Scene, harm: &str) {
    oracle::at_any_time(&world.database);
    world.a_day().await;
    // What the panic of an assertion below belongs to.
    println!("{scene:?}: {harm}");
    world.assert_quiet();
    let orders = world.database.read(|tables| tables.orders.len());
    assert!(orders <= 1, "{orders} orders");
    assert!(world.gateway.charges().len() <= 1);
    // An implementation that just fails everything is not right: a charge that was seen in time pays.
    if let (Scene::Reconcile(Success) | Scene::Callback(Success), 1) = (scene, orders) {
        assert_eq!(world.status(only(world)), (PaymentStatus::Paid, OrderStatus::Paid), "{harm}");
    }
}

async fn run_harmed(scene: Scene, at: usize, harm: Harm, site: Site) {
    let world = prepare(scene).await;
    let injector = Injector::new(Some((at, harm)));
    let program = world.program(injector.clone());
    world.gateway.set_faults(injector.clone());
    match harm {
        Harm::FailBefore | Harm::FailAfter | Harm::Conflict => {
            act(scene, &world, &program).await;
        }
        Harm::CrashBefore | Harm::CrashAfter => {
            tokio::select! {
                biased;
                () = act(scene, &world, &program) => panic!("{scene:?}: not crashed at {at} {site}"),
                () = injector.reached.notified() => {}
            }
        }
        Harm::Freeze => {
            let second = async {
                injector.reached.notified().await;
                world.gateway.set_faults(Arc::new(NoFaults));
                // The whole thing once more, beside the one that stands still there.
                act(scene, &world, &world.program(Arc::new(NoFaults))).await;
                oracle::at_any_time(&world.database);
                injector.resume.notify_one();
            };
            tokio::join!(act(scene, &world, &program), second);
        }
    }
    world.gateway.set_faults(Arc::new(NoFaults));
    oracle::at_any_time(&world.database);
    // Run twice: the client sends it again, the gateway's callback comes again, the next turn begins.
    act(scene, &world, &world.program(Arc::new(NoFaults))).await;
    heal_and_judge(&world, scene, &format!("{harm:?} at {at} {site}")).await;
}

async fn run_all(scenes: &[Scene], harms: &[Harm]) {
    let mut runs = 0;
    for scene in scenes {
        let sites = steps(*scene).await;
        assert!(sites.len() >= 8, "{scene:?}: {sites:?}");
        for harm in harms {
            for (at, site) in sites.iter().enumerate() {
                run_harmed(*scene, at, *harm, *site).await;
                runs += 1;
            }
        }
    }
    println!("{runs} runs");
}

#[tokio::test(start_paused = true)]
async fn place_order_survives_every_harm_at_every_step() {
    run_all(&PLACING, &Harm::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_callback_survives_every_harm_at_every_step() {
    run_all(&[Scene::Callback(Success), Scene::Callback(Failed)], &Harm::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_turn_survives_every_harm_at_every_step() {
    run_all(
        &[Scene::Reconcile(Success), Scene::Reconcile(Failed), Scene::ReconcileNone, Scene::ReconcileForced],
        &Harm::ALL,
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_watch_list_survives_every_harm_at_every_step() {
    run_all(&[Scene::Watch, Scene::WatchWoken], &Harm::ALL).await;
}

/// The steps that matter are among those that were found.
#[tokio::test(start_paused = true)]
async fn the_steps_that_were_found_are_all_there_are() {
    let found = |sites: &[Site], text: &str| sites.iter().any(|site| site.to_string() == text);
    let place = steps(Scene::Place(Reply::Rejected, None)).await;
    for step in [
        "place_orders/store.begin",
        "place_orders/tx.take_keys",
        "place_orders/tx.lock_products",
        "place_orders/tx.lock_points",
        "place_orders/tx.load_coupons",
        "place_orders/tx.load_keys",
        "place_orders/tx.store_stock",
        "place_orders/tx.store_payments",
        "place_orders/tx.store_keys",
        "place_orders/tx.commit",
        "start_payments/tx.store_payments",
        "start_payments/tx.commit",
        "gateway.charge",
        "settle/store.begin",
        "settle/tx.lock_payments",
        "settle/tx.load_cases",
        "settle/tx.store_points",
        "settle/tx.store_coupons",
        "settle/tx.store_stock",
        "settle/tx.store_orders",
        "settle/tx.store_answers",
        "settle/tx.commit",
        "store.announce_ended",
    ] {
        assert!(found(&place, step), "{step} is not among {place:?}");
    }
    let turn = steps(Scene::Reconcile(Failed)).await;
    for step in [
        "claim/tx.claim",
        "claim/tx.commit",
        "gateway.find_by_order",
        "gateway.find_by_key",
        "settle/tx.lock_payments",
        "settle/tx.store_checks",
        "settle/tx.commit",
    ] {
        assert!(found(&turn, step), "{step} is not among {turn:?}");
    }
    let callback = steps(Scene::Callback(Success)).await;
    for step in
        ["note_callbacks/tx.store_hints", "note_callbacks/tx.commit", "claim/tx.commit", "settle/tx.commit"]
    {
        assert!(found(&callback, step), "{step} is not among {callback:?}");
    }
}
