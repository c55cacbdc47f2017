//! Protocol ids, with the name of the network in those that are ours.
//!
//! Identify, ping, gossipsub and the relay keep the ids under which every libp2p peer knows them.

use libp2p::StreamProtocol;

use crate::error::Error;

/// The network whose name appears in no id.
pub const MAIN: &str = "main";

/// Longest network name in bytes; it travels in every negotiation.
const NETWORK_NAME: usize = 32;

/// The protocol ids of one network.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    pub(crate) kad: StreamProtocol,
    pub(crate) ad: StreamProtocol,
    pub(crate) offer: StreamProtocol,
    pub(crate) inference: StreamProtocol,
    /// What identify calls the protocol family; peers of other networks say something else.
    pub(crate) family: String,
}

impl Names {
    pub(crate) fn new(network: &str) -> Result<Self, Error> {
        let well_formed = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-';
        if network.is_empty() || network.len() > NETWORK_NAME || !network.bytes().all(well_formed) {
            return Err(Error::NetworkName {
                name: network.to_owned(),
                max: NETWORK_NAME,
            });
        }
        let id = |family: &str, rest: &str| match network {
            MAIN => format!("/{family}/{rest}"),
            _ => format!("/{family}/{network}/{rest}"),
        };
        let protocol = |id: String| StreamProtocol::try_from_owned(id).map_err(|_| Error::ProtocolId);
        Ok(Self {
            kad: protocol(id("c0mpute", "kad/1.0.0"))?,
            ad: protocol(id("c0mpute", "ad/1.0.0"))?,
            offer: protocol(id("c0mpute", "offer/1.0.0"))?,
            inference: protocol(id("infernet", "inference/1.0.0"))?,
            family: id("c0mpute", "id/1.0.0"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn main_is_left_out_and_others_stand_behind_the_family() {
        let main = Names::new("main").unwrap();
        assert_eq!(main.kad.as_ref(), "/c0mpute/kad/1.0.0");
        assert_eq!(main.inference.as_ref(), "/infernet/inference/1.0.0");
        let test = Names::new("test-1").unwrap();
        assert_eq!(test.ad.as_ref(), "/c0mpute/test-1/ad/1.0.0");
        assert_eq!(test.family, "/c0mpute/test-1/id/1.0.0");
    }

    #[test]
    fn a_name_that_could_forge_an_id_is_refused() {
        for name in ["", "a/b", "Main", "ümlaut", "a".repeat(33).as_str()] {
            assert!(Names::new(name).is_err(), "{name}");
        }
    }
}
