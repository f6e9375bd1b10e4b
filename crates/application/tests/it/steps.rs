//! Every step of every use-case: failed there, crashed there, stopped there while another does the same. The steps are
//! not listed: a run without harm tells them, so that a new one is covered by being there. After each harm the faults
//! end, the reconciler runs over more than a day, and the oracle looks at what is left.

use crate::faults::{Harm, Injector, Slow};
use crate::gateway::{Made, Plan, Reply, TestGateway, made};
use crate::oracle;
use crate::world::{Placed, STOCK, World, idempotency, only, secs};
use application::{Application, PlaceOrder};
use domain::placement::OrderLines;
use domain::ports::Cause;
use domain::settlement::TransactionStatus::{self, Failed, Success};
use domain::{OrderStatus, PaymentStatus, Quantity};
use futures_util::future::join_all;
use std::sync::Arc;
use std::time::Duration;
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
    /// A sync by hand of a failed payment that was charged after all.
    Sync,
    /// An order, and the callback of its transaction before the answer to its request.
    EarlyCallback(TransactionStatus),
    /// Orders of all kinds at once, in batches: by points, with coupon, refused by the gateway, one key twice, one that can't be.
    PlaceMany,
    /// A turn that settles several payments in one batch.
    ReconcileMany,
    /// Callbacks of several payments at once.
    CallbackMany,
}

impl Scene {
    /// Its orders, when all goes well.
    const fn most_orders(self) -> usize {
        match self {
            Self::PlaceMany => 5,
            Self::ReconcileMany | Self::CallbackMany => 4,
            _ => 1,
        }
    }

    const fn is_of_several(self) -> bool {
        self.most_orders() > 1
    }
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
    // With one lane all but the first come together.
    let lanes = if scene.is_of_several() { 1 } else { 2 };
    let world = World::with(|policy| policy.batch.lanes = lanes).await;
    let plan = |reply, end: Option<Made>| world.gateway.plan(Plan::new(reply, end.into_iter().collect()));
    match scene {
        Scene::Place(Reply::AcceptedDecided, Some(end)) => {
            plan(Reply::AcceptedDecided, Some(Made { decided_after: secs(0), ..made(end) }));
        }
        Scene::Place(reply, end) => plan(reply, end.map(made)),
        Scene::EarlyCallback(end) => {
            plan(Reply::Accepted, Some(Made { decided_after: secs(0), ..made(end) }));
        }
        Scene::Sync => {
            let late = Made { appears_after: secs(10), ..made(Success) };
            plan(Reply::NotReached, Some(late));
            world.placed(world.command()).await;
            tokio::time::sleep(secs(30)).await;
        }
        Scene::PlaceMany => {
            world.app.charge_points(crate::world::buyer(), crate::world::won(100_000)).await.unwrap();
            plan(Reply::Accepted, Some(made(Success)));
            plan(Reply::Rejected, None);
            plan(Reply::Uncertain, Some(made(Failed)));
        }
        Scene::ReconcileMany | Scene::CallbackMany => {
            let reply = if scene == Scene::CallbackMany { Reply::Accepted } else { Reply::Uncertain };
            for end in [Success, Failed, Success, Failed] {
                plan(reply, Some(made(end)));
            }
            for command in [world.plain(), world.command(), world.plain(), world.plain()] {
                world.placed(command).await;
            }
            tokio::time::sleep(secs(70)).await;
        }
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
        Scene::EarlyCallback(_) => {
            let command = PlaceOrder { idempotency: idempotency("k", 1), ..world.command() };
            let called = async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                if world.gateway.charges().len() == 1 {
                    call(world, program).await;
                }
                tokio::time::sleep(secs(5)).await;
            };
            let (_answer, ()) = tokio::join!(program.place_order(command), taking_up(program, called));
        }
        Scene::Callback(_) | Scene::CallbackMany => {
            let called = async {
                call(world, program).await;
                tokio::time::sleep(secs(1)).await;
            };
            taking_up(program, called).await;
        }
        Scene::Sync => {
            let _synced = program.sync_payment(only(world).payment_id, Cause::Operator).await;
        }
        Scene::PlaceMany => {
            join_all(many(world).into_iter().map(|command| program.place_order(command))).await;
        }
        Scene::ReconcileMany
        | Scene::Reconcile(_)
        | Scene::ReconcileNone
        | Scene::ReconcileForced
        | Scene::Watch
        | Scene::WatchWoken => {
            let _turn = program.reconcile(&CancellationToken::new()).await;
        }
    }
}

fn many(world: &World) -> Vec<PlaceOrder> {
    let keyed = |key, command| PlaceOrder { idempotency: idempotency(key, 1), ..command };
    let points = || PlaceOrder { use_point: crate::world::won(10_000), card: None, ..world.plain() };
    let all_pieces = Quantity::new(STOCK + 1).unwrap();
    let too_many = OrderLines::new([(world.product, all_pieces)]).unwrap();
    vec![
        keyed("a", world.plain()),
        keyed("b", points()),
        keyed("c", world.command()),
        keyed("c", world.command()),
        PlaceOrder { lines: too_many, ..keyed("d", world.plain()) },
        keyed("e", world.plain()),
        keyed("f", world.plain()),
    ]
}

/// The callback of each payment's transaction, all at once.
async fn call(world: &World, program: &Application) {
    let sent = world.gateway.charges();
    let calls = (1..=sent.len()).map(|number| async move {
        let key = TestGateway::key(number);
        let called = world.gateway.truth().into_iter().find(|transaction| transaction.key == key).unwrap();
        let payment = world.database.read(|tables| {
            let row = tables.payments.values().find(|row| row.record.order_ref == called.order_ref);
            row.map(|row| Placed {
                order_id: row.record.payment.order_id(),
                payment_id: row.record.payment.id(),
            })
        });
        let _answer = program.receive_callback(&world.token(payment.unwrap()), &key).await;
    });
    join_all(calls).await;
}

/// `work`, and beside it the worker, until that has nothing left to do.
async fn taking_up(program: &Application, work: impl Future<Output = ()>) {
    let stop = CancellationToken::new();
    let stopping = async {
        work.await;
        stop.cancel();
    };
    tokio::join!(program.take_up_callbacks(&stop), stopping);
}

/// The program that is harmed. Where several are to come together, its steps take time.
fn harmed(scene: Scene, world: &World, injector: &Arc<Injector>) -> Application {
    if scene.is_of_several() {
        world.program(Arc::new(Slow(injector.clone())))
    } else {
        world.program(injector.clone())
    }
}

/// The steps of the scene when nothing goes wrong.
async fn steps(scene: Scene) -> Vec<Site> {
    let world = prepare(scene).await;
    let injector = Injector::new(None);
    world.gateway.set_faults(injector.clone());
    act(scene, &world, &harmed(scene, &world, &injector)).await;
    world.gateway.set_faults(Arc::new(NoFaults));
    if scene.is_of_several() {
        let batches = ["place_orders", "start_payments", "settle", "note_callbacks"];
        let largest = batches.map(|name| world.commits(name).into_iter().max().unwrap_or_default());
        println!("{scene:?}: the largest batches {largest:?}");
        match scene {
            Scene::PlaceMany => assert!(largest[0] >= 4 && largest[1] >= 2 && largest[2] >= 2, "{largest:?}"),
            Scene::CallbackMany => assert!(largest[2] >= 2 && largest[3] >= 3, "{largest:?}"),
            _ => assert!(largest[2] >= 3, "{largest:?}"),
        }
    }
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
    let (orders, keys) = world.database.read(|tables| (tables.orders.len(), tables.idempotency.len()));
    assert!(orders <= scene.most_orders(), "{orders} orders");
    assert!(keys == 0 || keys == orders, "{keys} keys of {orders} orders");
    assert!(world.gateway.charges().len() <= orders);
    // An implementation that just fails everything is not right: a charge that was seen in time pays.
    let in_time = [Scene::Reconcile(Success), Scene::Callback(Success)].contains(&scene);
    if in_time || matches!(scene, Scene::ReconcileMany | Scene::CallbackMany) {
        let charged = world.gateway.truth().into_iter().filter(|transaction| transaction.status == Success);
        let paid = world.database.read(|tables| {
            tables.orders.values().filter(|row| row.order.status() == OrderStatus::Paid).count()
        });
        assert_eq!(paid, charged.count(), "{harm}");
    }
}

async fn run_harmed(scene: Scene, at: usize, harm: Harm, site: Site) {
    let world = prepare(scene).await;
    let injector = Injector::new(Some((at, harm)));
    let program = harmed(scene, &world, &injector);
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

#[tokio::test(start_paused = true)]
async fn an_early_callback_survives_every_harm_at_every_step() {
    run_all(&[Scene::EarlyCallback(Success), Scene::EarlyCallback(Failed)], &Harm::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn a_sync_survives_every_harm_at_every_step() {
    run_all(&[Scene::Sync], &Harm::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn batches_of_orders_survive_every_harm_at_every_step() {
    run_all(&[Scene::PlaceMany], &Harm::ALL).await;
}

/// Only the task that is at that step dies (it leads a batch, or is alone at the gateway); the program goes on. Nobody waits
/// for it, and what it left is brought to its end like any other.
#[tokio::test(start_paused = true)]
async fn batches_survive_the_death_of_who_leads_them() {
    let scene = Scene::PlaceMany;
    for harm in [Harm::CrashBefore, Harm::CrashAfter] {
        for (at, site) in steps(scene).await.iter().enumerate() {
            let world = prepare(scene).await;
            let injector = Injector::new(Some((at, harm)));
            let program = harmed(scene, &world, &injector);
            world.gateway.set_faults(injector.clone());
            let mut flows = tokio::task::JoinSet::new();
            let mut handles = Vec::new();
            for command in many(&world) {
                let program = program.clone();
                handles.push(flows.spawn(async move { program.place_order(command).await }));
            }
            injector.reached.notified().await;
            let dead = injector.reached_by.lock().unwrap().unwrap();
            handles.iter().find(|handle| handle.id() == dead).unwrap().abort();
            let all = async {
                let mut died = 0;
                while let Some(ended) = flows.join_next().await {
                    died += usize::from(ended.is_err());
                }
                died
            };
            let died = tokio::time::timeout(secs(10), all).await;
            assert_eq!(died, Ok(1), "{harm:?} at {at} {site}: somebody waits");
            world.gateway.set_faults(Arc::new(NoFaults));
            act(scene, &world, &world.program(Arc::new(NoFaults))).await;
            heal_and_judge(&world, scene, &format!("death, {harm:?} at {at} {site}")).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn batches_of_settlements_survive_every_harm_at_every_step() {
    run_all(&[Scene::ReconcileMany], &Harm::ALL).await;
}

#[tokio::test(start_paused = true)]
async fn batches_of_callbacks_survive_every_harm_at_every_step() {
    run_all(&[Scene::CallbackMany], &Harm::ALL).await;
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
