//! Identifiers. Each noun has a type of its own, so that a payment's id is never taken for an order's.

use std::fmt;

/// An id outside 1..2^53.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("식별자는 1 이상 2^53 미만의 정수여야 합니다.")]
pub struct InvalidId;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// # Errors
            /// [`InvalidId`] outside 1..2^53 (spec 03: ids are JSON integers below 2^53).
            pub const fn new(id: i64) -> Result<Self, InvalidId> {
                if id < 1 || id >= 1 << 53 { Err(InvalidId) } else { Ok(Self(id)) }
            }

            /// The number.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
    };
}

id!(/// An order.
    OrderId);
id!(/// A payment; an order has exactly one.
    PaymentId);
id!(/// A buyer.
    UserId);
id!(/// A product.
    ProductId);
id!(/// A coupon that can be issued to buyers.
    CouponId);
id!(/// One coupon in a buyer's hands.
    IssuedCouponId);
id!(/// A row of the discrepancy ledger.
    DiscrepancyId);

/// What the gateway is given as order id, one per payment and stored with it: `<installation>-<order>-<random>`, 6 to 64
/// characters of `A-Z a-z 0-9 - _`. Two databases at one gateway (a restored backup, staging beside production) never
/// give the same, and nobody can guess one. Payments from before there were installations keep their order id.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayOrderRef(String);

impl GatewayOrderRef {
    /// For a new payment. `installation` names the database (1 to 16 letters and digits), `random` is drawn for the payment.
    pub fn new(installation: &str, order_id: OrderId, random: [u8; 8]) -> Self {
        Self(format!("{installation}-{order_id}-{:016x}", u64::from_be_bytes(random)))
    }

    /// As the gateway wrote it, or as it is stored. It may be anything: only equality means something.
    pub fn from_gateway(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The order that a reference of this form names. It proves nothing: compare the whole with the one that is stored.
    pub fn named_order(&self) -> Option<OrderId> {
        let digits = match *self.0.splitn(3, '-').collect::<Vec<_>>().as_slice() {
            [only] => only,
            [_, order, _] => order,
            _ => return None,
        };
        let plain = digits.bytes().all(|byte| byte.is_ascii_digit());
        digits.parse().ok().filter(|_| plain).and_then(|id| OrderId::new(id).ok())
    }
}

impl fmt::Display for GatewayOrderRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GatewayOrderRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayOrderRef({:?})", self.0)
    }
}

/// A transaction key that is empty, longer than 100 characters, or not printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("거래 키의 형식이 올바르지 않습니다.")]
pub struct InvalidGatewayKey;

/// The gateway's name of a transaction, such as `20250816:TR:9577c5`: 1 to 100 printable ASCII characters.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayKey(String);

impl GatewayKey {
    /// # Errors
    /// [`InvalidGatewayKey`] when it could not be stored or sent in a path.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidGatewayKey> {
        let text = text.into();
        let fits = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(InvalidGatewayKey) }
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for GatewayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for GatewayKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayKey({})", self.0)
    }
}

/// A merchant id that is empty, longer than 100 characters, or not printable ASCII.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("가맹점 식별자는 보이는 ASCII 문자 1자 이상 100자 이하여야 합니다.")]
pub struct InvalidMerchantId;

/// Who we are at the gateway (`X-USER-ID`). Stored with each payment, because look-ups see only the merchant's own
/// transactions (spec 02).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MerchantId(String);

impl MerchantId {
    /// # Errors
    /// [`InvalidMerchantId`] unless it is 1 to 100 printable ASCII characters (it travels in a header).
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidMerchantId> {
        let text = text.into();
        let fits = (1..=100).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        if fits { Ok(Self(text)) } else { Err(InvalidMerchantId) }
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_json_safe_and_positive() {
        assert_eq!(OrderId::new(0), Err(InvalidId));
        assert_eq!(OrderId::new(1 << 53), Err(InvalidId));
        assert_eq!(OrderId::new((1 << 53) - 1).map(OrderId::get), Ok((1 << 53) - 1));
    }

    #[test]
    fn a_gateway_reference_is_of_one_installation_and_can_not_be_guessed() {
        let id = OrderId::new(100_001).unwrap();
        let ours = GatewayOrderRef::new("k3f9a2", id, [0, 1, 2, 3, 4, 5, 6, 255]);
        assert_eq!(ours.as_str(), "k3f9a2-100001-00010203040506ff");
        assert_eq!(ours.named_order(), Some(id));
        let longest = GatewayOrderRef::new(&"x".repeat(16), OrderId::new((1 << 53) - 1).unwrap(), [255; 8]);
        assert!(longest.as_str().len() <= 64);
        let named = |text: &str| GatewayOrderRef::from_gateway(text).named_order().map(OrderId::get);
        assert_eq!(named("100001"), Some(100_001), "a payment from before there were installations");
        for bad in ["", "-", "a-b", "a--b", "a-1x-b", "a-0-b", "+1", "a-+1-b", "99999999999999999999"] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_merchant_fits_a_header_and_is_refused_in_words_of_its_own() {
        assert!(MerchantId::new("x".repeat(100)).is_ok());
        for bad in ["", "a b", "a\n", "키", &"x".repeat(101)] {
            let told = MerchantId::new(bad).unwrap_err().to_string();
            assert!(told.contains("100자") && told != InvalidId.to_string(), "{bad:?}: {told}");
        }
    }

    #[test]
    fn gateway_keys_fit_their_column_and_a_path() {
        assert!(GatewayKey::new("20250816:TR:9577c5").is_ok());
        for bad in ["", "a b", "a\n", "키", &"x".repeat(101)] {
            assert_eq!(GatewayKey::new(bad), Err(InvalidGatewayKey), "{bad:?}");
        }
    }
}
