//! Card data on its way to the gateway. The number is in memory for the length of one order and nowhere else.

use std::fmt;
use std::str::FromStr;
use zeroize::Zeroizing;

/// A card number that is not `dddd-dddd-dddd-dddd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("카드 번호는 xxxx-xxxx-xxxx-xxxx 형식이어야 합니다.")]
pub struct InvalidCardNumber;

/// A full card number, `dddd-dddd-dddd-dddd` (spec 02). It prints masked only, and its memory is wiped on drop.
///
/// There is no `Serialize` and no telling `Debug`: the only way out is [`CardNumber::expose`].
#[derive(Clone, PartialEq, Eq)]
pub struct CardNumber(Zeroizing<String>);

impl CardNumber {
    /// The number in full. For the request to the gateway and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `1234-****-****-1451`, the only form that is stored or shown (spec 03).
    pub fn masked(&self) -> String {
        let first = self.0.get(..4).unwrap_or_default();
        let last = self.0.get(15..).unwrap_or_default();
        format!("{first}-****-****-{last}")
    }
}

impl FromStr for CardNumber {
    type Err = InvalidCardNumber;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = text.len() == 19
            && text.bytes().enumerate().all(|(at, byte)| match at {
                4 | 9 | 14 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        if fits { Ok(Self(Zeroizing::new(text.to_owned()))) } else { Err(InvalidCardNumber) }
    }
}

impl fmt::Debug for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardNumber(masked)")
    }
}

/// A card company the gateway does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("지원하지 않는 카드사입니다.")]
pub struct InvalidCardType;

/// The card companies the gateway takes (spec 02).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CardType {
    /// Samsung Card.
    Samsung,
    /// KB Kookmin Card.
    Kb,
    /// Hyundai Card.
    Hyundai,
}

impl CardType {
    /// All of them.
    pub const ALL: [CardType; 3] = [Self::Samsung, Self::Kb, Self::Hyundai];

    /// As it stands on the wire and in the database.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Samsung => "SAMSUNG",
            Self::Kb => "KB",
            Self::Hyundai => "HYUNDAI",
        }
    }
}

impl FromStr for CardType {
    type Err = InvalidCardType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(InvalidCardType)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_only_its_ends() {
        let number: CardNumber = "1234-5678-9814-1451".parse().unwrap();
        assert_eq!(number.masked(), "1234-****-****-1451");
        assert!(!format!("{number:?}").contains("5678"));
    }

    #[test]
    fn refuses_every_other_shape() {
        for bad in [
            "",
            "1234567898141451",
            "1234-5678-9814-145",
            "1234-5678-9814-14511",
            "1234-5678-9814-145a",
            "1234 5678 9814 1451",
            "１２３４-5678-9814-1451",
            "1234-5678-9814-1451 ",
        ] {
            assert_eq!(bad.parse::<CardNumber>(), Err(InvalidCardNumber), "{bad}");
        }
    }
}
