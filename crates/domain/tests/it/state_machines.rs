//! All states against all events. The same run of the code writes `docs/state-machines.md`: `UPDATE_DOCS=1` writes it,
//! any other run fails when it has drifted.

use domain::{
    Coupon, CouponId, Discount, FailureMessage, GatewayKey, IssuedCoupon, IssuedCouponId, IssuedCouponStatus,
    Money, Order, OrderId, OrderItem, OrderStatus, Payment, PaymentAmounts, PaymentEventKind, PaymentId,
    PaymentState, PaymentStatus, PointAccount, ProductId, Quantity, Stock, Timestamp, UserId,
};
use std::fmt::Write as _;
use std::path::Path;
use time::macros::datetime;

const NOW: Timestamp = datetime!(2026-01-01 00:00 UTC);

fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

fn key(text: &str) -> GatewayKey {
    GatewayKey::new(text).unwrap()
}

fn user() -> UserId {
    UserId::new(1).unwrap()
}

// ---- Payment

fn payment(state: PaymentState) -> Payment {
    let amounts = PaymentAmounts::new(won(10), won(3), won(2), won(5)).unwrap();
    Payment::restore(PaymentId::new(4).unwrap(), OrderId::new(7).unwrap(), user(), amounts, state)
}

fn payment_states() -> Vec<PaymentState> {
    vec![
        PaymentState::Pending,
        PaymentState::InProgress { key: None },
        PaymentState::InProgress { key: Some(key("K1")) },
        PaymentState::Paid { key: Some(key("K1")) },
        PaymentState::Failed { key: Some(key("K1")), message: None },
    ]
}

fn payment_event(state: &PaymentState, event: PaymentEventKind) -> Result<PaymentState, String> {
    let payment = payment(state.clone());
    let message = FailureMessage::new("why").unwrap();
    match event {
        PaymentEventKind::Start => payment.start(),
        PaymentEventKind::UpdateExternalPaymentKey => payment.update_external_payment_key(key("K2")),
        PaymentEventKind::Success => payment.success(),
        PaymentEventKind::Fail => payment.fail(Some(message)),
    }
    .map(|payment| payment.state().clone())
    .map_err(|error| error.to_string())
}

/// Spec 01 section 1, cell by cell.
#[test]
fn payment_every_state_meets_every_event() {
    const START: &str = "결제 대기 상태에서만 결제를 시작할 수 있습니다.";
    const KEY: &str = "결제 진행 중 상태에서만 외부 결제 키를 저장할 수 있습니다.";
    const SUCCESS: &str = "결제 진행 중 상태에서만 성공 처리할 수 있습니다.";
    const FAIL: &str = "이미 처리된 결제입니다.";
    let keyed = |text: &str| Some(key(text));
    let why = FailureMessage::new("why").unwrap();
    let failed = |key| PaymentState::Failed { key, message: Some(why.clone()) };
    let refused = |text: &str| Err(text.to_owned());
    let expected = [
        // start, updateExternalPaymentKey, success, fail
        [Ok(PaymentState::InProgress { key: None }), refused(KEY), refused(SUCCESS), Ok(failed(None))],
        [
            refused(START),
            Ok(PaymentState::InProgress { key: keyed("K2") }),
            Ok(PaymentState::Paid { key: None }),
            Ok(failed(None)),
        ],
        [
            refused(START),
            Ok(PaymentState::InProgress { key: keyed("K2") }),
            Ok(PaymentState::Paid { key: keyed("K1") }),
            Ok(failed(keyed("K1"))),
        ],
        [refused(START), refused(KEY), refused(SUCCESS), refused(FAIL)],
        [refused(START), refused(KEY), refused(SUCCESS), refused(FAIL)],
    ];
    for (state, row) in payment_states().iter().zip(expected) {
        for (event, expected) in PaymentEventKind::ALL.into_iter().zip(row) {
            assert_eq!(payment_event(state, event), expected, "{state:?} x {}", event.as_str());
        }
    }
}

#[test]
fn a_refused_payment_event_names_payment_state_and_event() {
    let refused = payment(PaymentState::Pending).success().unwrap_err();
    let domain::PaymentError::InvalidTransition { payment_id, from, event } = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((payment_id.get(), from, event), (4, PaymentStatus::Pending, PaymentEventKind::Success));
}

#[test]
fn an_event_changes_the_state_and_nothing_else() {
    let before = payment(PaymentState::Pending);
    let after = before.clone().start().unwrap();
    assert_eq!(
        (after.id(), after.order_id(), after.user_id(), after.amounts()),
        (before.id(), before.order_id(), before.user_id(), before.amounts())
    );
}

// ---- Order

fn order(status: OrderStatus) -> Order {
    let item = OrderItem {
        product_id: ProductId::new(1).unwrap(),
        product_name: "p".into(),
        unit_price: won(10),
        quantity: Quantity::new(1).unwrap(),
    };
    Order::restore(OrderId::new(7).unwrap(), user(), vec![item], status).unwrap()
}

const ORDER_EVENTS: [&str; 2] = ["pay", "cancel"];

fn order_event(status: OrderStatus, event: &str) -> Result<OrderStatus, String> {
    let order = order(status);
    let result = if event == "pay" { order.pay() } else { order.cancel() };
    result.map(|order| order.status()).map_err(|error| error.to_string())
}

#[test]
fn order_every_state_meets_every_event() {
    const PAY: &str = "주문 대기 상태에서만 결제 완료 처리할 수 있습니다.";
    const CANCEL: &str = "주문 대기 상태에서만 취소할 수 있습니다.";
    let expected = [
        (OrderStatus::Placed, [Ok(OrderStatus::Paid), Ok(OrderStatus::Cancelled)]),
        (OrderStatus::Paid, [Err(PAY.to_owned()), Err(CANCEL.to_owned())]),
        (OrderStatus::Cancelled, [Err(PAY.to_owned()), Err(CANCEL.to_owned())]),
    ];
    assert_eq!(expected.len(), OrderStatus::ALL.len());
    for (status, row) in expected {
        for (event, expected) in ORDER_EVENTS.into_iter().zip(row) {
            assert_eq!(order_event(status, event), expected, "{status:?} x {event}");
        }
    }
}

// ---- IssuedCoupon

fn coupon(valid_until: Option<Timestamp>) -> Coupon {
    let discount = Discount::fixed(won(5)).unwrap();
    Coupon { id: CouponId::new(1).unwrap(), name: "c".into(), discount, valid_until }
}

fn issued(status: IssuedCouponStatus) -> IssuedCoupon {
    let (id, coupon_id) = (IssuedCouponId::new(1).unwrap(), CouponId::new(1).unwrap());
    IssuedCoupon { id, coupon_id, user_id: user(), status }
}

const COUPON_STATES: [(&str, IssuedCouponStatus); 2] =
    [("AVAILABLE", IssuedCouponStatus::Available), ("USED", IssuedCouponStatus::Used { used_at: NOW })];
const COUPON_EVENTS: [&str; 4] = ["use", "use by another buyer", "use after its validity", "cancelUse"];

fn coupon_event(status: IssuedCouponStatus, event: &str) -> Result<IssuedCouponStatus, String> {
    let coupon_of = issued(status);
    let stranger = UserId::new(2).unwrap();
    match event {
        "use" => coupon_of.redeem(user(), &coupon(None), NOW),
        "use by another buyer" => coupon_of.redeem(stranger, &coupon(None), NOW),
        "use after its validity" => coupon_of.redeem(user(), &coupon(Some(NOW)), NOW),
        "cancelUse" => coupon_of.cancel_use(),
        other => panic!("{other}"),
    }
    .map(|coupon| coupon.status)
    .map_err(|error| error.to_string())
}

#[test]
fn issued_coupon_every_state_meets_every_event() {
    const USED: &str = "이미 사용된 쿠폰입니다.";
    const FOREIGN: &str = "보유하지 않은 쿠폰입니다.";
    const EXPIRED: &str = "유효 기간이 지난 쿠폰입니다.";
    const UNUSED: &str = "사용되지 않은 쿠폰입니다.";
    let refused = |text: &str| Err(text.to_owned());
    let expected = [
        [Ok(IssuedCouponStatus::Used { used_at: NOW }), refused(FOREIGN), refused(EXPIRED), refused(UNUSED)],
        [refused(USED), refused(FOREIGN), refused(USED), Ok(IssuedCouponStatus::Available)],
    ];
    for ((name, status), row) in COUPON_STATES.into_iter().zip(expected) {
        for (event, expected) in COUPON_EVENTS.into_iter().zip(row) {
            assert_eq!(coupon_event(status, event), expected, "{name} x {event}");
        }
    }
}

// ---- the document

fn cell<T>(result: Result<T, String>, show: impl Fn(T) -> String) -> String {
    match result {
        Ok(state) => format!("**{}**", show(state)),
        Err(message) => message,
    }
}

fn state_name(state: &PaymentState) -> String {
    let key = state.key().map_or(String::new(), |key| format!(", key {key}"));
    format!("{}{key}", state.status().as_str())
}

fn table(out: &mut String, corner: &str, events: &[&str], rows: Vec<(String, Vec<String>)>) {
    writeln!(out, "| {corner} | {} |", events.join(" | ")).unwrap();
    writeln!(out, "| --- |{}", " --- |".repeat(events.len())).unwrap();
    for (name, cells) in rows {
        writeln!(out, "| {name} | {} |", cells.join(" | ")).unwrap();
    }
}

fn guards(out: &mut String, rows: &[(&str, Result<String, String>)]) {
    table(
        out,
        "attempt",
        &["outcome"],
        rows.iter()
            .map(|(attempt, result)| ((*attempt).to_owned(), vec![cell(result.clone(), |text| text)]))
            .collect(),
    );
}

fn document() -> String {
    let mut out = String::from(
        "# State machines\n\n\
         Written by a test of `crates/domain` from the code itself; change it with\n\
         `UPDATE_DOCS=1 cargo test -p domain --test it state_machines`. Each cell is what really happens: the state after\n\
         the event in bold, or the message with which it is refused. A refused event changes nothing.\n\n## Payment\n\n",
    );
    let events: Vec<&str> = PaymentEventKind::ALL.iter().map(|event| event.as_str()).collect();
    let rows = payment_states()
        .iter()
        .map(|state| {
            let cells = PaymentEventKind::ALL
                .into_iter()
                .map(|event| cell(payment_event(state, event), |after| state_name(&after)))
                .collect();
            (state_name(state), cells)
        })
        .collect();
    table(&mut out, "state", &events, rows);
    out.push_str("\n`updateExternalPaymentKey` stores key K2. Making one, with parts of 10 won:\n\n");
    let make = |used, paid, discount| {
        PaymentAmounts::new(won(10), won(used), won(discount), won(paid))
            .map(|amounts| format!("PENDING, version 0, method {}", amounts.method().as_str()))
            .map_err(|error| error.to_string())
    };
    guards(
        &mut out,
        &[
            ("used points 0, card 10, discount 0", make(0, 10, 0)),
            ("used points 4, card 6, discount 0", make(4, 6, 0)),
            ("used points 4, card 0, discount 6", make(4, 0, 6)),
            ("used points -1, card 11, discount 0", make(-1, 11, 0)),
            ("used points 11, card -1, discount 0", make(11, -1, 0)),
            ("used points 0, card 11, discount -1", make(0, 11, -1)),
            ("used points 3, card 3, discount 3", make(3, 3, 3)),
        ],
    );
    order_and_coupon(&mut out);
    accounts(&mut out);
    out
}

fn order_and_coupon(out: &mut String) {
    out.push_str("\n## Order\n\n");
    let rows = OrderStatus::ALL
        .into_iter()
        .map(|status| {
            let show = |after: OrderStatus| after.as_str().to_owned();
            let cells =
                ORDER_EVENTS.into_iter().map(|event| cell(order_event(status, event), show)).collect();
            (status.as_str().to_owned(), cells)
        })
        .collect();
    table(out, "state", &ORDER_EVENTS, rows);
    out.push_str("\nMaking one:\n\n");
    let place = |prices: &[i64]| {
        let items = prices.iter().map(|price| OrderItem {
            product_id: ProductId::new(1).unwrap(),
            product_name: "p".into(),
            unit_price: won(*price),
            quantity: Quantity::new(2).unwrap(),
        });
        Order::place(OrderId::new(7).unwrap(), user(), items.collect())
            .map(|order| format!("{}, total {}", order.status().as_str(), order.total()))
            .map_err(|error| error.to_string())
    };
    guards(
        out,
        &[
            ("two items of 3 and 4 won, two pieces each", place(&[3, 4])),
            ("no item", place(&[])),
            ("only free items", place(&[0])),
            ("a total beyond 2^53 - 1 won", place(&[Money::MAX.won()])),
        ],
    );

    out.push_str("\n## IssuedCoupon\n\n");
    let show = |status| match status {
        IssuedCouponStatus::Available => "AVAILABLE, usedAt cleared".to_owned(),
        IssuedCouponStatus::Used { .. } => "USED, usedAt set".to_owned(),
    };
    let rows = COUPON_STATES
        .into_iter()
        .map(|(name, status)| {
            let cells =
                COUPON_EVENTS.into_iter().map(|event| cell(coupon_event(status, event), show)).collect();
            (name.to_owned(), cells)
        })
        .collect();
    table(out, "state", &COUPON_EVENTS, rows);
    out.push_str("\nStorage counts its version up at each change.\n\n## Coupon\n\n");
    let on = |discount: Result<Discount, domain::CouponError>, total| {
        discount
            .map(|discount| format!("{} won off", discount.on(won(total))))
            .map_err(|error| error.to_string())
    };
    guards(
        out,
        &[
            ("fixed 1000 on 5000", on(Discount::fixed(won(1000)), 5000)),
            ("fixed 1000 on 999", on(Discount::fixed(won(1000)), 999)),
            ("fixed 0", on(Discount::fixed(won(0)), 1)),
            ("15 % of 1010 (151.5)", on(Discount::rate(15), 1010)),
            ("15 % of 1003 (150.45)", on(Discount::rate(15), 1003)),
            ("100 % of 999", on(Discount::rate(100), 999)),
            ("0 %", on(Discount::rate(0), 1)),
            ("101 %", on(Discount::rate(101), 1)),
        ],
    );
}

fn accounts(out: &mut String) {
    out.push_str("\n## PointAccount\n\n");
    let account = PointAccount::new(user(), won(10)).unwrap();
    let points = |result: Result<PointAccount, domain::PointError>| {
        result.map(|account| format!("balance {}", account.balance())).map_err(|error| error.to_string())
    };
    guards(
        out,
        &[
            ("balance 10, charge 5", points(account.charge(won(5)))),
            ("balance 10, charge 0", points(account.charge(won(0)))),
            ("balance 10, deduct 10", points(account.deduct(won(10)))),
            ("balance 10, deduct 11", points(account.deduct(won(11)))),
            ("balance 10, deduct 0", points(account.deduct(won(0)))),
            ("balance 10, restore 5", points(account.restore(won(5)))),
            ("balance 10, restore 0", points(account.restore(won(0)))),
            ("balance 10, charge 2^53 - 1", points(account.charge(Money::MAX))),
        ],
    );
    out.push_str("\n## Stock\n\n");
    let stock = Stock::new(10).unwrap();
    let pieces = |result: Result<Stock, domain::StockError>| {
        result.map(|stock| format!("quantity {}", stock.quantity())).map_err(|error| error.to_string())
    };
    guards(
        out,
        &[
            ("quantity 10, decrease 10", pieces(stock.decrease(10))),
            ("quantity 10, decrease 11", pieces(stock.decrease(11))),
            ("quantity 10, decrease 0", pieces(stock.decrease(0))),
            ("quantity 10, increase 5", pieces(stock.increase(5))),
            ("quantity 10, increase 0", pieces(stock.increase(0))),
            ("quantity 10, increase 2^63 - 1", pieces(stock.increase(i64::MAX))),
        ],
    );
}

#[test]
fn the_document_is_what_the_code_does() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/state-machines.md");
    let document = document();
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&path, &document).unwrap();
    }
    let stored = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        stored == document,
        "docs/state-machines.md has drifted; write it with UPDATE_DOCS=1 cargo test -p domain --test it state_machines"
    );
}
