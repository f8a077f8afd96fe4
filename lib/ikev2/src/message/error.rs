//! Why a message could not be read.

use std::fmt;

/// The first thing found wrong with a message. Where StarOS counts a cause, it has a variant of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// Shorter than an IKE header.
    Header,
    /// The initiator's SPI is zero.
    HeaderInitiatorSpi,
    /// The responder's SPI is zero where it must not be, or the other way round.
    HeaderResponderSpi,
    /// Another major version than 2.
    HeaderMajorVersion(u8),
    /// An unknown exchange type.
    HeaderExchangeType(u8),
    /// Flags that contradict the exchange.
    HeaderFlags,
    /// The header's length is not that of the datagram.
    HeaderLength,
    /// Something that must be there is missing, or is there twice.
    Syntax,
    /// A payload's length is too small, or goes beyond the message.
    PayloadLength,
    /// A critical payload of an unknown type.
    CriticalPayload(u8),
    /// More payloads than we take.
    TooManyPayloads,
    /// An SA payload's length is not that of its proposals.
    SaLength,
    /// A malformed proposal header.
    ProposalHeader,
    /// A proposal's length is impossible.
    ProposalLength,
    /// Proposals are not numbered 1, 2, ...
    ProposalNumber,
    /// A proposal for an impossible protocol or with an SPI of the wrong size.
    ProposalProtocol,
    /// More proposals than we take.
    TooManyProposals,
    /// More transforms than we take, or another number than announced.
    TooManyTransforms,
    /// A malformed transform header or attribute.
    TransformHeader,
    /// A transform's length is impossible.
    TransformLength,
    /// A KE payload without public value.
    KeLength,
    /// A public value of the wrong length for its group.
    KeGroupLength,
    /// An ID payload without identity, or one too long.
    IdLength,
    /// An unknown type of identity.
    IdType,
    /// An AUTH payload without data.
    AuthLength,
    /// A nonce that is not 16 to 256 octets long.
    NonceLength,
    /// A notify payload too short for what it says.
    NotifyLength,
    /// A notify payload whose SPI size does not fit its protocol.
    NotifySpiLength,
    /// A notify payload of an impossible protocol.
    NotifyProtocol,
    /// A cookie that is not 1 to 64 octets long.
    NotifyCookie,
    /// A REKEY_SA notify without ESP SPI.
    NotifyRekey,
    /// A malformed delete payload.
    Delete,
    /// An EAP payload whose length is not that of its packet.
    EapLength,
    /// A configuration payload too short.
    CpLength,
    /// An attribute of a configuration payload of impossible length.
    CpAttributeLength,
    /// A traffic selector payload whose length is not that of its selectors.
    TsLength,
    /// A malformed traffic selector.
    TsSyntax,
    /// More traffic selectors than we take.
    TooManyTs,
    /// A certificate or certificate request payload too short.
    CertLength,
    /// An encrypted payload too short for its IV and ICV, or not the last payload.
    EncryptedLength,
    /// The integrity check of an encrypted payload failed.
    Integrity,
    /// The padding of an encrypted payload is longer than the payload.
    Padding,
    /// A fragment with an impossible number (RFC 7383 2.5).
    Fragment,
}

impl DecodeError {
    /// True if the message failed its integrity check, so that nothing in it can be believed.
    pub fn is_decrypt_failure(self) -> bool {
        matches!(self, Self::Integrity | Self::EncryptedLength)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Header => "shorter than an IKE header",
            Self::HeaderInitiatorSpi => "initiator SPI is zero",
            Self::HeaderResponderSpi => "responder SPI contradicts the exchange",
            Self::HeaderMajorVersion(version) => return write!(f, "major version {version}, expected 2"),
            Self::HeaderExchangeType(exchange) => return write!(f, "unknown exchange type {exchange}"),
            Self::HeaderFlags => "flags contradict the exchange",
            Self::HeaderLength => "header length is not that of the datagram",
            Self::Syntax => "a mandatory payload is missing or doubled",
            Self::PayloadLength => "impossible payload length",
            Self::CriticalPayload(kind) => return write!(f, "unknown critical payload {kind}"),
            Self::TooManyPayloads => "too many payloads",
            Self::SaLength => "SA payload length",
            Self::ProposalHeader => "malformed proposal",
            Self::ProposalLength => "impossible proposal length",
            Self::ProposalNumber => "proposals out of order",
            Self::ProposalProtocol => "impossible protocol or SPI size in a proposal",
            Self::TooManyProposals => "too many proposals",
            Self::TooManyTransforms => "too many transforms, or not as many as announced",
            Self::TransformHeader => "malformed transform",
            Self::TransformLength => "impossible transform length",
            Self::KeLength => "KE payload too short",
            Self::KeGroupLength => "public value has the wrong length for its group",
            Self::IdLength => "impossible ID length",
            Self::IdType => "unknown ID type",
            Self::AuthLength => "AUTH payload too short",
            Self::NonceLength => "nonce is not 16 to 256 octets",
            Self::NotifyLength => "notify payload too short",
            Self::NotifySpiLength => "impossible SPI size in a notify",
            Self::NotifyProtocol => "impossible protocol in a notify",
            Self::NotifyCookie => "cookie is not 1 to 64 octets",
            Self::NotifyRekey => "REKEY_SA without ESP SPI",
            Self::Delete => "malformed delete payload",
            Self::EapLength => "EAP length",
            Self::CpLength => "configuration payload too short",
            Self::CpAttributeLength => "impossible configuration attribute length",
            Self::TsLength => "traffic selector payload length",
            Self::TsSyntax => "malformed traffic selector",
            Self::TooManyTs => "too many traffic selectors",
            Self::CertLength => "certificate payload too short",
            Self::EncryptedLength => "impossible encrypted payload length",
            Self::Integrity => "integrity check failed",
            Self::Padding => "impossible padding",
            Self::Fragment => "impossible fragment number",
        };
        f.write_str(text)
    }
}

impl std::error::Error for DecodeError {}
