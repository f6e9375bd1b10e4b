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

/// The order id that the gateway is given, one per payment: our order id in decimal, at least six digits
/// (spec 02: `orderId` has at least 6 characters).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayOrderRef(String);

impl GatewayOrderRef {
    /// As the gateway wrote it. It may be anything: only equality with ours means something.
    pub fn from_gateway(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text on the wire.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<OrderId> for GatewayOrderRef {
    fn from(id: OrderId) -> Self {
        Self(format!("{:06}", id.0))
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
    fn a_gateway_reference_has_at_least_six_digits() {
        assert_eq!(OrderId::new(7).map(GatewayOrderRef::from).unwrap().as_str(), "000007");
        assert_eq!(OrderId::new(1_234_567).map(GatewayOrderRef::from).unwrap().as_str(), "1234567");
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
