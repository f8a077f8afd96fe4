//! The control socket between `sit` and a child: frames of the bus, with descriptors.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::sync::Mutex;

use bus::Message;
use bus::frame::{self, Header};
use netio::ControlSocket;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixDatagram;

/// One end of a control socket, for tokio. Both ends of the protocol use it: [`crate::Sit`] here, `sit` itself there.
pub struct Channel {
    socket: ControlSocket,
    /// A duplicate of the socket that tokio waits on.
    readiness: UnixDatagram,
    /// The receive buffer between two packets.
    buffer: Mutex<Vec<u8>>,
}

/// A frame with its descriptors.
#[derive(Debug)]
pub struct Packet {
    /// The header.
    pub header: Header,
    /// The descriptors, in order.
    pub fds: Vec<OwnedFd>,
    message: Vec<u8>,
}

impl Packet {
    /// A frame that was received elsewhere ([`frame`](Self::frame)), without descriptors.
    pub fn of_frame(octets: &[u8]) -> Result<Self, frame::FrameError> {
        let (header, message) = frame::decode(octets)?;
        Ok(Self {
            header,
            fds: Vec::new(),
            message: message.to_vec(),
        })
    }

    /// The frame as it was received.
    pub fn frame(&self) -> Vec<u8> {
        let mut octets = Vec::with_capacity(frame::HEADER + self.message.len());
        frame::put_header(self.header, &mut octets);
        octets.extend_from_slice(&self.message);
        octets
    }

    /// The message as a `M`.
    pub fn decode<M: prost::Message + Default>(&self) -> Result<M, String> {
        M::decode(&*self.message).map_err(|error| error.to_string())
    }
}

impl Channel {
    /// Takes an end over. Must be called within a tokio runtime.
    pub fn new(socket: ControlSocket) -> io::Result<Self> {
        let duplicate = StdDatagram::from(socket.as_fd().try_clone_to_owned()?);
        duplicate.set_nonblocking(true)?;
        Ok(Self {
            socket,
            readiness: UnixDatagram::from_std(duplicate)?,
            buffer: Mutex::default(),
        })
    }

    /// Sends a message with descriptors, which stay open here. Waits while the other end does not read.
    pub async fn send(
        &self,
        header: Header,
        message: &impl prost::Message,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame =
            frame::encode(header, message).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.readiness
            .async_io(Interest::WRITABLE, || self.socket.send(&frame, fds))
            .await
    }

    /// Sends if there is room now, otherwise fails with `WouldBlock`.
    pub fn try_send(
        &self,
        header: Header,
        message: &impl prost::Message,
        fds: &[BorrowedFd<'_>],
    ) -> io::Result<()> {
        let frame =
            frame::encode(header, message).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        self.socket.send(&frame, fds)
    }

    /// The next message; `None` when the other end is closed. What is no frame is an error of kind `InvalidData`, after which the next
    /// message can be received. Cancelling loses nothing.
    pub async fn receive(&self) -> io::Result<Option<Packet>> {
        let received =
            self.readiness
                .async_io(Interest::READABLE, || {
                    let mut buffer = self
                        .buffer
                        .lock()
                        .unwrap_or_else(std::sync::PoisonError::into_inner);
                    buffer.resize(ControlSocket::MAX_MESSAGE, 0);
                    let received = self.socket.receive(&mut buffer)?;
                    Ok(received
                        .map(|received| (buffer.get(..received.length).map(<[u8]>::to_vec), received.fds)))
                })
                .await;
        let received = match received {
            // It ended without having read all that we sent.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => None,
            received => received?,
        };
        let Some((Some(octets), fds)) = received else {
            return Ok(None);
        };
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        let (header, message) = frame::decode(&octets).map_err(invalid)?;
        Ok(Some(Packet {
            header,
            fds,
            message: message.to_vec(),
        }))
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// A descriptor that tokio can wait on.
pub fn async_fd(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    #[expect(
        deprecated,
        reason = "the replacement is unsafe because of types that may change their descriptor; OwnedFd cannot"
    )]
    AsyncFd::new(fd)
}

/// The name of a message type, for errors.
pub(crate) fn found(packet: &Packet) -> String {
    format!(
        "a {:?} of type {:#06x} with {} descriptors",
        packet.header.kind,
        packet.header.message,
        packet.fds.len()
    )
}

/// The header of a message of type `M`.
pub(crate) fn header<M: Message>(kind: frame::Kind, sender: bus::Address, correlation: u64) -> Header {
    Header {
        kind,
        message: M::TYPE,
        sender,
        correlation,
    }
}
