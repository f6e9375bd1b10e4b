//! The texts that spec 01 section 1 fixes, each out of the call that gives it, and the amount rules beside them.

use domain::{
    AmountOverflow, FailureMessage, Money, Payment, PaymentAmounts, PaymentError, PaymentId, PaymentMethod,
    PaymentStatus, PointAccount, Stock, UserId,
};

fn won(amount: i64) -> Money {
    Money::new(amount).unwrap()
}

fn amounts(total: i64, used: i64, discount: i64, paid: i64) -> Result<PaymentAmounts, String> {
    PaymentAmounts::new(won(total), won(used), won(discount), won(paid)).map_err(|error| error.to_string())
}

#[test]
fn creating_a_payment_checks_its_parts_in_the_order_of_the_table() {
    assert_eq!(amounts(10, -1, -1, -1).unwrap_err(), "사용 포인트는 0 이상이어야 합니다.");
    assert_eq!(amounts(10, 0, -1, -1).unwrap_err(), "카드 결제 금액은 0 이상이어야 합니다.");
    assert_eq!(
        PaymentAmounts::new(won(10), won(0), won(-1), won(11)),
        Err(PaymentError::CouponDiscountNegative)
    );
    for (used, discount, paid) in [(3, 3, 3), (4, 4, 4), (0, 0, 0), (11, 0, 0)] {
        assert_eq!(
            amounts(10, used, discount, paid).unwrap_err(),
            "결제 금액이 주문 금액과 일치하지 않습니다."
        );
    }
    let most = Money::MAX.won();
    assert_eq!(amounts(most, most, 1, most).unwrap_err(), "결제 금액이 주문 금액과 일치하지 않습니다.");
    assert!(amounts(10, 3, 3, 4).is_ok());
}

#[test]
fn a_new_payment_is_pending() {
    let parts = amounts(10, 3, 3, 4).unwrap();
    let payment = Payment::create(
        PaymentId::new(1).unwrap(),
        domain::OrderId::new(1).unwrap(),
        UserId::new(1).unwrap(),
        parts,
    );
    assert_eq!(payment.status(), PaymentStatus::Pending);
    assert_eq!(payment.key(), None);
    assert_eq!(*payment.amounts(), parts);
}

#[test]
fn the_method_follows_from_the_amounts() {
    let method = |used, discount, paid| amounts(10, used, discount, paid).unwrap().method();
    assert_eq!(method(10, 0, 0), PaymentMethod::Point);
    assert_eq!(method(0, 10, 0), PaymentMethod::Point);
    assert_eq!(method(0, 0, 10), PaymentMethod::Card);
    assert_eq!(method(0, 4, 6), PaymentMethod::Card);
    assert_eq!(method(4, 0, 6), PaymentMethod::Mixed);
    assert_eq!(method(4, 5, 1), PaymentMethod::Mixed);
    let names = [PaymentMethod::Point, PaymentMethod::Card, PaymentMethod::Mixed].map(PaymentMethod::as_str);
    assert_eq!(names, ["POINT", "CARD", "MIXED"]);
}

#[test]
fn points_and_stock_say_what_the_contract_says() {
    let account = PointAccount::new(UserId::new(1).unwrap(), won(1)).unwrap();
    assert_eq!(account.deduct(won(2)).unwrap_err().to_string(), "포인트가 부족합니다.");
    assert_eq!(account.restore(won(0)).unwrap_err().to_string(), "복구 금액은 양수여야 합니다.");
    let stock = Stock::new(1).unwrap();
    assert_eq!(stock.decrease(2).unwrap_err().to_string(), "재고가 부족합니다.");
    assert_eq!(stock.increase(0).unwrap_err().to_string(), "재고 증가량은 0보다 커야 합니다.");
}

/// The rest of the table's texts stand in `state_machines`, where each state meets each event.
#[test]
fn a_failure_message_has_at_most_500_characters_not_bytes() {
    assert!(FailureMessage::new("가".repeat(500)).is_ok());
    assert_eq!(FailureMessage::new("가".repeat(501)), Err(PaymentError::FailureMessageTooLong));
    assert_eq!(FailureMessage::from_outside(&"가".repeat(501)).as_str().chars().count(), 500);
    assert_eq!(FailureMessage::from_outside("a\0b\u{1b}c\n").as_str(), "abc");
}

#[test]
fn amounts_beyond_two_to_the_53_are_refused() {
    for out_of_range in [i64::MAX, i64::MIN, 1 << 53, -(1 << 53)] {
        assert_eq!(Money::new(out_of_range), Err(AmountOverflow), "{out_of_range}");
    }
    assert_eq!(Money::new((1 << 53) - 1), Ok(Money::MAX));
}
