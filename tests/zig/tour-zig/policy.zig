//! What docs/languages.md shows of a backend in Zig: nodes reach each other by VXLAN, and each counts its starts.

const std = @import("std");
const host = @import("host.zig");
const Options = @import("options.zig").Options;
const runtime = @import("runtime.zig");
const c = host.c;
const answer = host.answer;
const slice = host.slice;

const name = "tour";
/// Bytes that VXLAN adds to a packet.
const overhead = 50;

pub const panic = host.panic;

/// A handle stays valid for as long as the plugin runs.
var vtep: c.flannel_backend_links_own_link_t = undefined;

/// Refused by the policy, with a reason of its own, or by the host, with its.
const Refused = error{ Refused, OutOfMemory, Host };

/// Why the host has refused something.
var refusal: c.flannel_backend_types_error_t = undefined;

/// Checks the options, and declares; answers what peers have to know.
fn register(arena: std.mem.Allocator, node: *const c.exports_flannel_backend_policy_node_t, config: []const u8, reason: *[]const u8) Refused![]const u8 {
    if (!node.external.ipv4.is_some) {
        reason.* = "tour tunnels IPv4, which this cluster does not have";
        return error.Refused;
    }
    const options: Options = try .read(arena, config, reason);
    const vni = try options.number("VNI", 1, 16777215) orelse 1;
    try countStart(arena);
    return declare(arena, vni, node.external.mtu -| overhead);
}

/// Counts this start in the durable store, and says it in the log.
fn countStart(arena: std.mem.Allocator) Refused!void {
    var key = host.borrowed("starts");
    var stored: c.plugin_option_list_u8_t = undefined;
    if (!c.flannel_backend_state_get(&key, &stored, &refusal)) return error.Host;
    defer c.plugin_option_list_u8_free(&stored);
    const before = if (stored.is_some) stored.val.ptr[0..stored.val.len] else "0";
    const starts = (std.fmt.parseInt(u32, before, 10) catch 0) +| 1;
    const number = try std.fmt.allocPrint(arena, "{}", .{starts});
    var value: c.plugin_list_u8_t = .{ .ptr = number.ptr, .len = number.len };
    if (!c.flannel_backend_state_set(&key, &value, &refusal)) return error.Host;
    host.write(c.FLANNEL_BACKEND_LOG_LEVEL_INFO, "started", &.{.{ "starts", number }});
}

/// Declares the device; answers what peers have to know of it.
fn declare(arena: std.mem.Allocator, vni: u32, mtu: u32) Refused![]const u8 {
    var device = std.mem.zeroes(c.flannel_backend_links_vxlan_t);
    device.name = host.borrowed(try std.fmt.allocPrint(arena, "flannel.{}", .{vni}));
    device.vni = vni;
    device.family = c.FLANNEL_BACKEND_TYPES_IP_FAMILY_IPV4;
    device.mtu = mtu;
    if (!c.flannel_backend_links_ensure_vxlan(&device, &vtep, &refusal)) return error.Host;
    var mac = std.mem.zeroes(host.Mac);
    _ = c.flannel_backend_links_method_link_mac(c.flannel_backend_links_borrow_link(vtep), &mac);
    var room: [17]u8 = undefined;
    return std.fmt.allocPrint(arena, "{{\"VNI\":{},\"VtepMAC\":\"{s}\"}}", .{ vni, host.printedMac(mac, &room) });
}

/// Declares what a peer needs; answers why not.
fn put(peer: u64, lease: *const host.Lease) ?host.Unserved {
    if (!std.mem.eql(u8, slice(lease.backend_type), name)) return null;
    if (!lease.ipv4_subnet.is_some or !lease.public_ipv4.is_some) return null;
    var arena: std.heap.ArenaAllocator = .init(runtime.allocator);
    defer arena.deinit();
    var reason: []const u8 = "out of memory";
    var mac = vtepMac(arena.allocator(), lease, &reason) catch return .{ .rejected = answer(reason) };
    const device = c.flannel_backend_links_borrow_link(vtep);
    const v4 = c.FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4;
    var gateway: host.Address = .{ .tag = v4, .val = .{ .ipv4 = lease.ipv4_subnet.val.address } };
    var node: host.Address = .{ .tag = v4, .val = .{ .ipv4 = lease.public_ipv4.val } };
    const subnet: host.Prefix = .{ .tag = c.FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV4, .val = .{ .ipv4 = lease.ipv4_subnet.val } };
    var route: c.flannel_backend_routes_route_t = .{ .destination = subnet, .via = gateway, .onlink = true };
    if (!c.flannel_backend_routes_put(peer, &route, device, &refusal) or
        !c.flannel_backend_fdb_put(peer, &mac, &node, device, &refusal) or
        !c.flannel_backend_neighbours_put(peer, &gateway, &mac, device, &refusal))
        // The text is at the same place in all kinds of errors.
        return .{ .refused = refusal.val.denied };
    return null;
}

/// What a peer has published, which is a stranger's input.
fn vtepMac(arena: std.mem.Allocator, lease: *const host.Lease, reason: *[]const u8) !host.Mac {
    const published = if (lease.backend_data.is_some) slice(lease.backend_data.val) else "{}";
    const data: Options = try .read(arena, published, reason);
    const written = try data.text("VtepMAC") orelse {
        reason.* = "there is no VtepMAC";
        return error.Refused;
    };
    return host.readMac(written) orelse {
        reason.* = try std.fmt.allocPrint(arena, "VtepMAC: \"{s}\" is no Ethernet address; one looks like 9e:01:c5:3f:00:0b", .{written});
        return error.Refused;
    };
}

export fn exports_flannel_backend_policy_describe(description: *c.exports_flannel_backend_policy_description_t) void {
    const types = runtime.make(c.plugin_string_t, 1);
    types[0] = answer(name);
    description.* = .{
        .name = answer(name),
        .version = answer("0.1.0"),
        .backend_types = .{ .ptr = types, .len = 1 },
    };
}

export fn exports_flannel_backend_policy_register(
    node: *c.exports_flannel_backend_policy_node_t,
    config: *c.plugin_string_t,
    registration: *c.exports_flannel_backend_policy_registration_t,
    failure: *c.plugin_string_t,
) bool {
    defer c.exports_flannel_backend_policy_node_free(node);
    defer c.plugin_string_free(config);
    var arena: std.heap.ArenaAllocator = .init(runtime.allocator);
    defer arena.deinit();
    var reason: []const u8 = "out of memory";
    const data = register(arena.allocator(), node, slice(config.*), &reason) catch |wrong| {
        failure.* = if (wrong == error.Host) refusal.val.denied else answer(reason);
        return false;
    };
    registration.* = std.mem.zeroes(c.exports_flannel_backend_policy_registration_t);
    registration.backend_type = answer(name);
    registration.backend_data = .{ .is_some = true, .val = answer(data) };
    registration.mtu = node.external.mtu -| overhead;
    return true;
}

export fn exports_flannel_backend_policy_lease_acquired(lease: *host.Lease, failure: *c.plugin_string_t) bool {
    defer c.flannel_backend_types_lease_free(lease);
    var address: host.Prefix = .{ .tag = c.FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV4, .val = .{ .ipv4 = lease.ipv4_subnet.val } };
    address.val.ipv4.length = 32;
    var addresses: c.flannel_backend_links_list_ip_prefix_t = .{ .ptr = &address, .len = if (lease.ipv4_subnet.is_some) 1 else 0 };
    const device = c.flannel_backend_links_borrow_link(vtep);
    if (c.flannel_backend_links_method_link_set_addresses(device, &addresses, &refusal)) return true;
    failure.* = refusal.val.denied;
    return false;
}

export fn exports_flannel_backend_policy_apply(
    changes: *c.exports_flannel_backend_policy_list_change_t,
    rejections: *c.exports_flannel_backend_policy_list_rejection_t,
    failure: *c.plugin_string_t,
) bool {
    defer c.exports_flannel_backend_policy_list_change_free(changes);
    rejections.* = .{ .ptr = runtime.make(c.exports_flannel_backend_policy_rejection_t, changes.len), .len = 0 };
    for (changes.ptr[0..changes.len]) |*change| {
        if (change.tag != c.EXPORTS_FLANNEL_BACKEND_POLICY_CHANGE_PUT) continue;
        const peer = change.val.put.f0;
        switch (put(peer, &change.val.put.f1) orelse continue) {
            .rejected => |reason| {
                rejections.ptr[rejections.len] = .{ .peer = peer, .reason = reason };
                rejections.len += 1;
            },
            .refused => |reason| {
                failure.* = reason;
                forget(rejections);
                return false;
            },
        }
    }
    // An empty list has nothing that the caller would free.
    if (rejections.len == 0) forget(rejections);
    return true;
}

fn forget(rejections: *c.exports_flannel_backend_policy_list_rejection_t) void {
    for (rejections.ptr[0..rejections.len]) |*rejection| c.exports_flannel_backend_policy_rejection_free(rejection);
    runtime.free(rejections.ptr);
    rejections.len = 0;
}

export fn exports_flannel_backend_policy_tick(next: *c.plugin_option_u64_t, _: *c.plugin_string_t) bool {
    next.is_some = false;
    return true;
}
