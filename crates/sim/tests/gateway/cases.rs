//! The cases. Each runs over both gateways.

use crate::driver::{
    Driver, LookUpFault, Manners, RequestFault, accepted, by_key, by_order, charge, eventually, found,
    limits, listed, merchant, order, request, won,
};
use adapters_pg::transport::{LookupFailure, PaymentAttempt, cause};
use domain::ports::{ChargeRequest, FailureCause, Lookup, Oddity};
use domain::settlement::TransactionStatus::{self, Failed, Pending, Success};
use domain::{GatewayKey, MerchantId};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

const APPROVED: &str = "정상 승인되었습니다.";
const LIMIT: &str = "한도초과입니다. 다른 카드를 선택해주세요.";
const BAD_CARD: &str = "잘못된 카드입니다. 다른 카드를 선택해주세요.";

pub(crate) async fn what_is_accepted_is_pending_under_a_key_of_its_own<D: Driver>() {
    let gateway = D::start(Manners::Undecided).await;
    let attempt = charge(&gateway, &request(&gateway, "100001")).await;
    let PaymentAttempt::Accepted { key, status } = attempt else { panic!("{attempt:?}") };
    assert_eq!(status, Pending);
    let parts: Vec<&str> = key.as_str().split(':').collect();
    assert!(parts[0].len() == 8 && parts[0].bytes().all(|byte| byte.is_ascii_digit()), "{key}");
    assert!(parts[1] == "TR" && parts.len() == 3, "{key}");
    assert!(parts[2].len() == 6 && parts[2].bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    let by_key = found(&gateway, &key).await;
    assert_eq!((by_key.key, by_key.order_ref), (key.clone(), order("100001")));
    assert_eq!((by_key.amount, by_key.status, by_key.reason), (won(5000), Pending, None));
    let list = listed(&gateway, "100001").await;
    assert_eq!(list.len(), 1);
    assert_eq!((&list[0].key, list[0].status, &list[0].reason), (&key, Pending, &None));
}

/// Each request breaks one more rule than the one before, from the last rule to the first: the earlier one wins.
pub(crate) async fn the_rules_are_checked_in_their_order<D: Driver>() {
    let gateway = D::start(Manners::Obedient).await;
    let mut broken = request(&gateway, "100001");
    broken.callback_url = "http://elsewhere.example/callback".to_owned();
    let address = refusal(&gateway, &broken).await;
    assert!(address.starts_with("콜백 URL 은 "), "{address}");
    broken.amount = won(0);
    assert_eq!(refusal(&gateway, &broken).await, "결제금액은 양의 정수여야 합니다.");
    broken.amount = won(-1);
    assert_eq!(refusal(&gateway, &broken).await, "결제금액은 양의 정수여야 합니다.");
    for short in ["", "      ", "12345", "주문아이디"] {
        broken.order_ref = order(short);
        assert_eq!(
            refusal(&gateway, &broken).await,
            "주문 ID는 6자리 이상 문자열이어야 합니다.",
            "{short:?}"
        );
    }
    assert!(listed(&gateway, "100001").await.is_empty());
    accepted(&gateway, "100001").await;
}

async fn refusal(gateway: &impl Driver, request: &ChargeRequest) -> String {
    match charge(gateway, request).await {
        PaymentAttempt::Rejected { message } => message.as_str().to_owned(),
        other => panic!("not refused: {other:?}"),
    }
}

pub(crate) async fn one_order_requested_twice_is_charged_twice<D: Driver>() {
    let gateway = D::start(Manners::Undecided).await;
    let first = accepted(&gateway, "100001").await;
    let second = accepted(&gateway, "100001").await;
    let other = accepted(&gateway, "100002").await;
    assert_ne!(first, second);
    let keys: Vec<GatewayKey> = listed(&gateway, "100001").await.into_iter().map(|one| one.key).collect();
    assert_eq!(keys, [first, second], "oldest first, and of this order alone");
    assert_eq!(found(&gateway, &other).await.order_ref, order("100002"));
}

/// The one that charged may be the last of many.
pub(crate) async fn every_transaction_of_an_order_is_listed<D: Driver>() {
    let gateway = D::start(Manners::Undecided).await;
    let mut keys = Vec::new();
    for _ in 0..25 {
        keys.push(accepted(&gateway, "100001").await);
    }
    let listed: Vec<GatewayKey> = listed(&gateway, "100001").await.into_iter().map(|one| one.key).collect();
    assert_eq!(listed, keys);
}

/// To the gateway they are one key; to us they are two, and the answer is not about the one that was asked for.
pub(crate) async fn a_key_is_found_whatever_its_case_and_is_not_the_one_asked_for<D: Driver>() {
    let gateway = D::start(Manners::Obedient).await;
    let key = accepted(&gateway, "100001").await;
    let folded = GatewayKey::new(key.as_str().to_lowercase()).unwrap();
    assert_ne!(folded, key);
    let odd = LookupFailure::Odd { what: Oddity::WrongSubject };
    assert_eq!(by_key(&gateway, &folded).await, Err(odd));
    assert_eq!(found(&gateway, &key).await.key, key);
}

pub(crate) async fn what_nobody_requested_is_not_found<D: Driver>() {
    let gateway = D::start(Manners::Obedient).await;
    accepted(&gateway, "100001").await;
    let unknown = GatewayKey::new("20250816:TR:ffffff").unwrap();
    assert_eq!(by_key(&gateway, &unknown).await, Ok(Lookup::NotFound));
    assert_eq!(by_order(&gateway, "100009").await, Ok(Lookup::NotFound));
}

pub(crate) async fn another_merchant_sees_nothing<D: Driver>() {
    let gateway = D::start(Manners::Obedient).await;
    let key = accepted(&gateway, "100001").await;
    let (transport, stranger) = (gateway.transport(), MerchantId::new("stranger").unwrap());
    let seen = transport.find_by_key(&stranger, &key, limits(&gateway, None)).await;
    assert_eq!(seen, Ok(Lookup::NotFound));
    let seen = transport.find_by_order(&stranger, &order("100001"), limits(&gateway, None)).await;
    assert_eq!(seen, Ok(Lookup::NotFound));
    // Nor does his own order of the same name show ours.
    let his = ChargeRequest { merchant: stranger.clone(), ..request(&gateway, "100001") };
    let PaymentAttempt::Accepted { key: his_key, .. } = charge(&gateway, &his).await else {
        panic!("{his:?}")
    };
    let seen = transport.find_by_order(&stranger, &order("100001"), limits(&gateway, None)).await;
    assert!(matches!(seen, Ok(Lookup::Found(list)) if list.len() == 1 && list[0].key == his_key));
    assert_eq!(listed(&gateway, "100001").await.len(), 1);
}

/// Waits for a transaction's end; by key and by order it is the same.
async fn end_of(gateway: &impl Driver, key: &GatewayKey, order_ref: &str) -> (TransactionStatus, String) {
    eventually(gateway, "decided", async || {
        let seen = found(gateway, key).await;
        let reason = seen.reason.clone()?;
        assert_ne!(seen.status, Pending);
        let list = listed(gateway, order_ref).await;
        assert!(list.iter().any(|one| one.key == *key && one.status == seen.status), "{list:?}");
        Some((seen.status, reason))
    })
    .await
}

pub(crate) async fn a_transaction_is_decided_once_and_told_once<D: Driver>() {
    let gateway = D::start(Manners::Obedient).await;
    let asked = Instant::now();
    let key = accepted(&gateway, "100001").await;
    let end = end_of(&gateway, &key, "100001").await;
    assert!(asked.elapsed() >= Duration::from_secs(1), "1 to 5 s later: {:?}", asked.elapsed());
    match end {
        (Success, ref reason) => assert_eq!(reason, APPROVED),
        (Failed, ref reason) => assert!([LIMIT, BAD_CARD].contains(&reason.as_str()), "{reason}"),
        (Pending, _) => panic!("{end:?}"),
    }
    eventually(&gateway, "told", async || (!gateway.told().is_empty()).then_some(())).await;
    // Long enough for a second one, which would come with the first or never.
    let second = accepted(&gateway, "100002").await;
    eventually(&gateway, "told of the second", async || (gateway.told().len() > 1).then_some(())).await;
    assert_eq!(end_of(&gateway, &key, "100001").await, end, "an end is final");
    assert_eq!(gateway.told(), [(key, "100001".to_owned()), (second, "100002".to_owned())]);
}

/// 40 % of the requests are answered 500 and create nothing, after 100 to 500 ms; of the others 70 % are approved, 20 %
/// declined for the limit and 10 % for the card, 1 to 5 s later.
pub(crate) async fn out_of_the_box_the_documented_shares_come_true<D: Driver>() {
    const REQUESTS: i64 = 400;
    let gateway = D::start(Manners::Documented).await;
    let mut keys = Vec::new();
    let mut errors = 0;
    for batch in 0..4 {
        let hundred = (0..REQUESTS / 4).map(|nth| {
            let (gateway, order_ref) = (&gateway, format!("{}", 100_000 + batch * 1000 + nth));
            async move {
                let asked = Instant::now();
                let attempt = charge(gateway, &request(gateway, &order_ref)).await;
                assert!(asked.elapsed() >= Duration::from_millis(99), "{:?}", asked.elapsed());
                (order_ref, attempt)
            }
        });
        for (order_ref, attempt) in join_all(hundred).await {
            match attempt {
                PaymentAttempt::Accepted { key, status: Pending } => keys.push((order_ref, key)),
                PaymentAttempt::NotReached { cause: cause::HTTP_500, may_have_created: true, .. } => {
                    errors += 1;
                    assert!(listed(&gateway, &order_ref).await.is_empty(), "{order_ref}");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // Five standard deviations.
    assert!((110..=210).contains(&errors), "{errors} of {REQUESTS} were answered 500");
    let mut ends: BTreeMap<String, usize> = BTreeMap::new();
    for (order_ref, key) in &keys {
        *ends.entry(end_of(&gateway, key, order_ref).await.1).or_default() += 1;
    }
    for (reason, share) in [(APPROVED, 70), (LIMIT, 20), (BAD_CARD, 10)] {
        let seen = ends.get(reason).copied().unwrap_or_default() * 100 / keys.len();
        assert!(seen + 15 > share && seen < share + 15, "{reason} {seen} %, not {share} %");
    }
}

/// Runs all at once, in order of their results.
async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.map(Box::pin).collect();
    let mut results: Vec<Option<F::Output>> = futures.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        for (future, result) in futures.iter_mut().zip(&mut results) {
            if result.is_none()
                && let std::task::Poll::Ready(output) = future.as_mut().poll(context)
            {
                *result = Some(output);
            }
        }
        if results.iter().all(Option::is_some) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
    results.into_iter().flatten().collect()
}

/// What a request comes to, and whether it left a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comes {
    NotReached(FailureCause, bool),
    Uncertain(FailureCause),
}

pub(crate) async fn a_request_meets_every_fault_as_the_client_classifies_it<D: Driver>() {
    use Comes::{NotReached, Uncertain};
    let bad_gateway = [Uncertain(cause::HTTP_502), Uncertain(cause::HTTP_504)];
    for (fault, allowed, created) in [
        (RequestFault::Http500, vec![NotReached(cause::HTTP_500, true)], vec![false]),
        (RequestFault::Create500, vec![NotReached(cause::HTTP_500, true)], vec![true]),
        (RequestFault::Http503, vec![NotReached(cause::HTTP_503, true)], vec![false]),
        (RequestFault::Create503, vec![NotReached(cause::HTTP_503, true)], vec![true]),
        (RequestFault::Http429, vec![NotReached(cause::HTTP_429, false)], vec![false]),
        (RequestFault::BadGateway, bad_gateway.to_vec(), vec![false, true]),
        (RequestFault::Garbage, vec![Uncertain(cause::UNREADABLE_BODY)], vec![false, true]),
        (RequestFault::ResetLost, vec![Uncertain(cause::CONNECTION_RESET)], vec![false]),
        (RequestFault::ResetCreated, vec![Uncertain(cause::CONNECTION_RESET)], vec![true]),
        (RequestFault::HangLost, vec![Uncertain(cause::READ_TIMEOUT)], vec![false]),
        (RequestFault::HangCreated, vec![Uncertain(cause::READ_TIMEOUT)], vec![true]),
    ] {
        let gateway = D::start(Manners::Request(fault)).await;
        let hangs = matches!(fault, RequestFault::HangLost | RequestFault::HangCreated);
        let (mut seen, mut left) = (Vec::new(), Vec::new());
        for nth in 0..12 {
            let order_ref = format!("{}", 100_001 + nth);
            let read = hangs.then_some(Duration::from_secs(1));
            let request = request(&gateway, &order_ref);
            let attempt = gateway.transport().request_payment(&request, limits(&gateway, read)).await;
            let comes = match attempt {
                PaymentAttempt::NotReached { cause, may_have_created, retry_after } => {
                    let told = retry_after.is_some();
                    assert!(told || cause != cause::HTTP_429, "429 says when to come again");
                    NotReached(cause, may_have_created)
                }
                PaymentAttempt::Uncertain { cause } => Uncertain(cause),
                other => panic!("{fault:?}: {other:?}"),
            };
            assert!(allowed.contains(&comes), "{fault:?} comes to {comes:?}");
            seen.push(comes);
            // What hangs may be booked a moment later than it is given up.
            if created == [true] {
                eventually(&gateway, "created", async || {
                    (listed(&gateway, &order_ref).await.len() == 1).then_some(())
                })
                .await;
            }
            left.push(!listed(&gateway, &order_ref).await.is_empty());
            if nth == 1 && (allowed.len(), created.len()) == (1, 1) {
                break;
            }
        }
        assert!(allowed.iter().all(|comes| seen.contains(comes)), "{fault:?}: {seen:?}");
        assert!(left.iter().all(|left| created.contains(left)), "{fault:?}: {left:?}");
        assert!(created.iter().all(|created| left.contains(created)), "{fault:?}: {left:?}");
    }
}

pub(crate) async fn a_look_up_meets_every_fault_as_the_client_classifies_it<D: Driver>() {
    let failed = |cause| LookupFailure::Unreachable { cause, retry_after: None };
    for (fault, expected) in [
        (LookUpFault::Error, Some(failed(cause::HTTP_500))),
        (LookUpFault::Hang, Some(failed(cause::READ_TIMEOUT))),
        (LookUpFault::False404, None),
    ] {
        let gateway = D::start(Manners::LookUp(fault)).await;
        let key = accepted(&gateway, "100001").await;
        let limits = limits(&gateway, (fault == LookUpFault::Hang).then_some(Duration::from_millis(500)));
        let by_key = gateway.transport().find_by_key(&merchant(), &key, limits).await;
        let by_order = gateway.transport().find_by_order(&merchant(), &order("100001"), limits).await;
        match expected {
            Some(failure) => assert_eq!((by_key, by_order), (Err(failure), Err(failure)), "{fault:?}"),
            None => assert_eq!((by_key, by_order), (Ok(Lookup::NotFound), Ok(Lookup::NotFound))),
        }
    }
}

pub(crate) async fn an_answer_may_bear_the_end_already<D: Driver>() {
    let gateway = D::start(Manners::DecidedAtOnce).await;
    let attempt = charge(&gateway, &request(&gateway, "100001")).await;
    let PaymentAttempt::Accepted { key, status } = attempt else { panic!("{attempt:?}") };
    assert_ne!(status, Pending);
    assert_eq!(found(&gateway, &key).await.status, status);
    eventually(&gateway, "told all the same", async || (gateway.told().len() == 1).then_some(())).await;
}

pub(crate) async fn a_wrong_amount_is_seen_by_key<D: Driver>() {
    let gateway = D::start(Manners::WrongAmount).await;
    let key = accepted(&gateway, "100001").await;
    assert_ne!(found(&gateway, &key).await.amount, won(5000));
}

pub(crate) async fn a_key_given_twice_forgets_the_first<D: Driver>() {
    let gateway = D::start(Manners::KeyReused).await;
    let first = accepted(&gateway, "100001").await;
    let second = accepted(&gateway, "100002").await;
    assert_eq!(first, second);
    assert_eq!(found(&gateway, &first).await.order_ref, order("100002"));
    assert!(listed(&gateway, "100001").await.is_empty());
}

pub(crate) async fn a_wiped_gateway_finds_nothing<D: Driver>() {
    let gateway = D::start(Manners::Undecided).await;
    let key = accepted(&gateway, "100001").await;
    gateway.wipe();
    assert_eq!(by_key(&gateway, &key).await, Ok(Lookup::NotFound));
    assert_eq!(by_order(&gateway, "100001").await, Ok(Lookup::NotFound));
    accepted(&gateway, "100002").await;
}

pub(crate) async fn a_callback_may_be_lost_or_repeated<D: Driver>() {
    let lost = D::start(Manners::CallbackLost).await;
    let key = accepted(&lost, "100001").await;
    end_of(&lost, &key, "100001").await;
    // Another one is decided after the first one's callback would have come.
    let later = accepted(&lost, "100002").await;
    end_of(&lost, &later, "100002").await;
    assert!(lost.told().is_empty());

    let repeated = D::start(Manners::CallbackRepeated).await;
    let key = accepted(&repeated, "100001").await;
    eventually(&repeated, "told twice", async || (repeated.told().len() > 1).then_some(())).await;
    assert!(repeated.told().iter().all(|(told, token)| *told == key && token == "100001"));
}
