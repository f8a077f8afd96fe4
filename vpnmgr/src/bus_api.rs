//! What `vpnmgr` serves on the bus.

use bus::messages::common::Execute;
use bus::messages::vpnmgr::{
    AddRoutes, Addresses, Block, GetAddresses, GetPortTraffic, LeaseAddress, LeaseBlock, Leased,
    RemoveRoutes, ReturnBlock, Returned, Route, RoutesChanged,
};
use bus::{Incoming, RefusalCode, dispatch};
use ipnet::IpNet;

use crate::routes::TunnelRoute;
use crate::show;
use crate::state::{State, address, octets};
use crate::traffic::port_traffic;

/// Answers one request.
pub fn answer(state: &mut State, incoming: Incoming) {
    dispatch!(incoming, {
        LeaseBlock => |request, responder| match state.may_lease() {
            true => responder.reply(lease_block(state, &request)),
            false => responder.refuse(RefusalCode::Busy, RELOADING),
        },
        ReturnBlock => |request, responder| {
            if let Some(first) = address(&request.first) {
                state.give_back(request.worker, first);
            }
            responder.reply(Returned {});
        },
        LeaseAddress => |request, responder| match state.may_lease() || request.release {
            true => responder.reply(lease_address(state, &request)),
            false => responder.refuse(RefusalCode::Busy, RELOADING),
        },
        AddRoutes => |request, responder| {
            let failure = add_routes(state, &request).err().unwrap_or_default();
            responder.reply(RoutesChanged { failure });
        },
        RemoveRoutes => |request, responder| {
            match request.routes.is_empty() {
                true => state.remove_older_routes(&slots(&request.slots), request.tenure),
                false => state.remove_routes(request.routes.iter().filter_map(tunnel_route)),
            }
            responder.reply(RoutesChanged::default());
        },
        GetAddresses => |_, responder| match state.network.reachable() {
            Ok(addresses) => responder.reply(Addresses {
                addresses: addresses.into_iter().map(octets).collect(),
            }),
            Err(error) => responder.refuse(RefusalCode::Busy, &error.to_string()),
        },
        GetPortTraffic => |_, responder| responder.reply(port_traffic(&state.config, &state.context)),
        Execute => |request, responder| responder.reply(show::execute(state, &request)),
    });
}

fn lease_block(state: &mut State, request: &LeaseBlock) -> Block {
    match state.lease_block(&request.pool, request.worker) {
        Ok(block) => Block {
            first: octets(block.first),
            count: block.count,
            prefix_length: block.prefix_length.into(),
            failure: String::new(),
        },
        Err(refusal) => Block {
            failure: refusal.to_string(),
            ..Block::default()
        },
    }
}

fn lease_address(state: &mut State, request: &LeaseAddress) -> Leased {
    let Some(address) = address(&request.address) else {
        return Leased {
            failure: "the address has neither 4 nor 16 octets".to_owned(),
            ..Leased::default()
        };
    };
    if request.release {
        state.give_back(request.worker, address);
        return Leased::default();
    }
    match state.lease_address(address, request.worker) {
        Ok(pool) => Leased {
            pool: pool.unwrap_or_default(),
            ..Leased::default()
        },
        Err(failure) => Leased {
            failure,
            ..Leased::default()
        },
    }
}

fn add_routes(state: &mut State, request: &AddRoutes) -> Result<(), String> {
    let with_tenure = |route| Some((tunnel_route(route)?, route.tenure));
    let routes: Option<Vec<(TunnelRoute, u64)>> = request.routes.iter().map(with_tenure).collect();
    let routes = routes.ok_or_else(|| "a route is no IP network, or has no SPI of ours".to_owned())?;
    state.add_routes(routes)
}

fn slots(numbers: &[u32]) -> Vec<u8> {
    numbers
        .iter()
        .filter_map(|slot| u8::try_from(*slot).ok())
        .collect()
}

/// None for what is no network, or has an SPI that cannot be ours (its first octet is the slot, which is never 0).
fn tunnel_route(route: &Route) -> Option<TunnelRoute> {
    let length = u8::try_from(route.length).ok()?;
    let network = IpNet::new(address(&route.network)?, length).ok()?.trunc();
    (route.spi >> 24 != 0).then_some(TunnelRoute {
        network,
        spi: route.spi,
    })
}

const RELOADING: &str = "not every sessmgr has said yet which addresses it holds";
