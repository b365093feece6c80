//! A backend for nodes on one link: packets for a peer's subnet go to the peer's own address.
//!
//! Each call is a transaction of the host's: it is applied when the function returns true, and not at all when it returns false. What
//! was declared for a peer is forgotten before the peer is handed over again, so there is nothing to delete.
//!
//! Arguments belong to the function that is called, which frees them; what it answers is freed by the caller.

const std = @import("std");
const host = @import("host.zig");
const Options = @import("options.zig").Options;
const runtime = @import("runtime.zig");
const c = host.c;
const answer = host.answer;
const slice = host.slice;

/// The plugin's name, and the `Backend.Type` that it is for.
const name = "example-host-gw";
const version = "0.1.0";

pub const panic = host.panic;

var has_ipv4 = false;
var has_ipv6 = false;
/// The external interface. A handle stays valid for as long as the plugin runs.
var external: ?c.flannel_backend_links_own_link_t = null;

export fn exports_flannel_backend_policy_describe(description: *c.exports_flannel_backend_policy_description_t) void {
    const types = runtime.make(c.plugin_string_t, 1);
    types[0] = answer(name);
    description.* = .{
        .name = answer(name),
        .version = answer(version),
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
    const mtu = register(arena.allocator(), node, slice(config.*), &reason) catch {
        failure.* = answer(reason);
        return false;
    };
    registration.* = std.mem.zeroes(c.exports_flannel_backend_policy_registration_t);
    registration.backend_type = answer(name);
    registration.mtu = mtu;
    return true;
}

/// Answers the MTU, or why this node is not one for this backend.
fn register(
    arena: std.mem.Allocator,
    node: *const c.exports_flannel_backend_policy_node_t,
    config: []const u8,
    reason: *[]const u8,
) !u32 {
    has_ipv4 = node.ipv4_network.is_some;
    has_ipv6 = node.ipv6_network.is_some;
    const device = node.external;
    if ((has_ipv4 and !isOwn(device.ipv4, node.public_ipv4)) or (has_ipv6 and !isOwn(device.ipv6, node.public_ipv6))) {
        // Peers send to the public address: behind NAT, nothing would listen there.
        const words = "the public address is not {s}'s own: this backend cannot work through NAT";
        reason.* = try std.fmt.allocPrint(arena, words, .{slice(device.name)});
        return error.Refused;
    }
    // An example of an option, "Backend": {"Type": "example-host-gw", "MTU": 1400}: what is wrong with it is said by `number`.
    const options: Options = try .read(arena, config, reason);
    const mtu = try options.number("MTU", 1280, 65535) orelse device.mtu;
    return @min(mtu, device.mtu);
}

fn isOwn(own: anytype, published: @TypeOf(own)) bool {
    return own.is_some and published.is_some and std.meta.eql(own.val, published.val);
}

export fn exports_flannel_backend_policy_lease_acquired(lease: *host.Lease, _: *c.plugin_string_t) bool {
    // No device of its own, so no address to put anywhere.
    c.flannel_backend_types_lease_free(lease);
    return true;
}

export fn exports_flannel_backend_policy_apply(
    changes: *c.exports_flannel_backend_policy_list_change_t,
    rejections: *c.exports_flannel_backend_policy_list_rejection_t,
    failure: *c.plugin_string_t,
) bool {
    defer c.exports_flannel_backend_policy_list_change_free(changes);
    rejections.* = .{ .ptr = runtime.make(c.exports_flannel_backend_policy_rejection_t, changes.len), .len = 0 };
    for (changes.ptr[0..changes.len]) |*change| {
        // The entries of a peer that is gone go without us.
        if (change.tag != c.EXPORTS_FLANNEL_BACKEND_POLICY_CHANGE_PUT) continue;
        const peer = change.val.put.f0;
        switch (put(peer, &change.val.put.f1) orelse continue) {
            .rejected => |reason| {
                rejections.ptr[rejections.len] = .{ .peer = peer, .reason = reason };
                rejections.len += 1;
            },
            .refused => |reason| {
                // What the host has refused is for the operator to see.
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

/// Declares what a peer needs; answers why not.
fn put(peer: u64, lease: *const host.Lease) ?host.Unserved {
    if (!std.mem.eql(u8, slice(lease.backend_type), name)) {
        const fields = [_][2][]const u8{.{ "type", slice(lease.backend_type) }};
        host.write(c.FLANNEL_BACKEND_LOG_LEVEL_DEBUG, "ignoring a peer of another backend", &fields);
        return null;
    }
    if (has_ipv4 and lease.ipv4_subnet.is_some and lease.public_ipv4.is_some) {
        const subnet: host.Prefix = .{
            .tag = c.FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV4,
            .val = .{ .ipv4 = lease.ipv4_subnet.val },
        };
        const via: host.Address = .{
            .tag = c.FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4,
            .val = .{ .ipv4 = lease.public_ipv4.val },
        };
        if (reach(peer, subnet, via)) |unserved| return unserved;
    }
    if (has_ipv6 and lease.ipv6_subnet.is_some and lease.public_ipv6.is_some) {
        const subnet: host.Prefix = .{
            .tag = c.FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV6,
            .val = .{ .ipv6 = lease.ipv6_subnet.val },
        };
        const via: host.Address = .{
            .tag = c.FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV6,
            .val = .{ .ipv6 = lease.public_ipv6.val },
        };
        if (reach(peer, subnet, via)) |unserved| return unserved;
    }
    return null;
}

/// Declares the route to a peer's subnet; answers why not.
fn reach(peer: u64, subnet: host.Prefix, public: host.Address) ?host.Unserved {
    external = external orelse c.flannel_backend_links_external();
    const link = c.flannel_backend_links_borrow_link(external.?);
    var via = public;
    var refusal: c.flannel_backend_types_error_t = undefined;
    var on_link = false;
    // The text is at the same place in all kinds of errors.
    if (!c.flannel_backend_links_is_on_link(&via, &on_link, &refusal)) return .{ .refused = refusal.val.denied };
    if (!on_link) {
        // When this changes, the host asks again.
        var device: c.plugin_string_t = undefined;
        c.flannel_backend_links_method_link_name(link, &device);
        defer c.plugin_string_free(&device);
        var address: [48]u8 = undefined;
        var text: [160]u8 = undefined;
        const words = "{s} is not on the link of {s}: this backend needs all nodes on one link";
        const what = .{ host.printed(via, &address), slice(device) };
        return .{ .rejected = answer(std.fmt.bufPrint(&text, words, what) catch "it is not on the link") };
    }
    var route: c.flannel_backend_routes_route_t = .{ .destination = subnet, .via = via, .onlink = false };
    if (!c.flannel_backend_routes_put(peer, &route, link, &refusal)) return .{ .refused = refusal.val.denied };
    return null;
}
