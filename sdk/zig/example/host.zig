//! What the contract's bindings, which are C, look like from Zig: texts, addresses, the log.

const std = @import("std");
pub const c = @cImport(@cInclude("plugin.h"));

pub const Address = c.flannel_backend_types_ip_address_t;
pub const Prefix = c.flannel_backend_types_ip_prefix_t;
pub const Lease = c.flannel_backend_types_lease_t;
pub const Mac = c.flannel_backend_types_mac_address_t;

/// What became of a peer that is not served; the text is the caller's.
pub const Unserved = union(enum) {
    /// The policy rejects it, and serves the others.
    rejected: c.plugin_string_t,
    /// The host has refused something: the call fails.
    refused: c.plugin_string_t,
};

/// A panic is in the log with its text; then the call counts as failed, and the plugin is started afresh.
pub const panic = std.debug.FullPanic(struct {
    fn panicked(message: []const u8, _: ?usize) noreturn {
        write(c.FLANNEL_BACKEND_LOG_LEVEL_ERROR, message, &.{});
        @trap();
    }
}.panicked);

/// A text that is handed to the host, which frees it.
pub fn answer(text: []const u8) c.plugin_string_t {
    var string: c.plugin_string_t = undefined;
    c.plugin_string_dup_n(&string, text.ptr, text.len);
    return string;
}

pub fn slice(string: c.plugin_string_t) []const u8 {
    return if (string.len == 0) "" else string.ptr[0..string.len];
}

/// A text that the host looks at, and does not keep.
pub fn borrowed(text: []const u8) c.plugin_string_t {
    return .{ .ptr = @constCast(text.ptr), .len = text.len };
}

/// Writes a line into the daemon's log.
pub fn write(level: u8, message: []const u8, fields: []const [2][]const u8) void {
    var room: [4]c.plugin_tuple2_string_string_t = undefined;
    const count = @min(fields.len, room.len);
    for (fields[0..count], room[0..count]) |field, *to| to.* = .{ .f0 = borrowed(field[0]), .f1 = borrowed(field[1]) };
    var text = borrowed(message);
    var list: c.plugin_list_tuple2_string_string_t = .{ .ptr = &room, .len = count };
    c.flannel_backend_log_write(level, &text, &list);
}

/// An address as people write it.
pub fn printed(address: Address, room: *[48]u8) []const u8 {
    var writer: std.Io.Writer = .fixed(room);
    if (address.tag == c.FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4) {
        const v4 = address.val.ipv4;
        writer.print("{}.{}.{}.{}", .{ v4.f0, v4.f1, v4.f2, v4.f3 }) catch unreachable;
    } else {
        const v6 = address.val.ipv6;
        const groups = [8]u16{ v6.f0, v6.f1, v6.f2, v6.f3, v6.f4, v6.f5, v6.f6, v6.f7 };
        for (groups, 0..) |group, at| writer.print("{s}{x}", .{ if (at == 0) "" else ":", group }) catch unreachable;
    }
    return writer.buffered();
}

/// An Ethernet address: `9e:01:c5:3f:00:0b`.
pub fn printedMac(mac: Mac, room: *[17]u8) []const u8 {
    const octets = [6]u8{ mac.f0, mac.f1, mac.f2, mac.f3, mac.f4, mac.f5 };
    var writer: std.Io.Writer = .fixed(room);
    for (octets, 0..) |octet, at| writer.print("{s}{x:0>2}", .{ if (at == 0) "" else ":", octet }) catch unreachable;
    return writer.buffered();
}

/// An Ethernet address that somebody has written, with `:` or `-` between its octets; null if it is none.
pub fn readMac(text: []const u8) ?Mac {
    if (text.len != 17 or (text[2] != ':' and text[2] != '-')) return null;
    var octets: [6]u8 = undefined;
    for (&octets, 0..) |*octet, at| {
        const digits = text[3 * at ..][0..2];
        for (digits) |digit| if (!std.ascii.isHex(digit)) return null;
        if (at < 5 and text[3 * at + 2] != text[2]) return null;
        octet.* = std.fmt.parseInt(u8, digits, 16) catch return null;
    }
    return .{ .f0 = octets[0], .f1 = octets[1], .f2 = octets[2], .f3 = octets[3], .f4 = octets[4], .f5 = octets[5] };
}
