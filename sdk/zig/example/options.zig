//! The options of the network config's `Backend`, which an operator writes: found by name in any case, and refused in words.

const std = @import("std");
const Value = std.json.Value;

/// Why options are refused is for the operator to see.
pub const Error = error{ Refused, OutOfMemory };

/// As many bytes of a wrong value are enough to find it.
const shown = 100;

pub const Options = struct {
    members: std.json.ObjectMap,
    arena: std.mem.Allocator,
    /// Why they are refused, as soon as they are.
    reason: *[]const u8,

    /// Reads an object; all that it takes is the arena's.
    pub fn read(arena: std.mem.Allocator, written: []const u8, reason: *[]const u8) Error!Options {
        // Of a name that is there twice, the last counts, as upstream reads it.
        const rules: std.json.ParseOptions = .{ .duplicate_field_behavior = .use_last };
        const value = std.json.parseFromSliceLeaky(Value, arena, written, rules) catch |wrong| {
            if (wrong == error.OutOfMemory) return error.OutOfMemory;
            return refuse(arena, reason, "the options are not JSON: {s}", .{@errorName(wrong)});
        };
        return switch (value) {
            .object => |members| .{ .members = members, .arena = arena, .reason = reason },
            else => refuse(arena, reason, "the options are not a JSON object such as {{\"Key\": 1}}", .{}),
        };
    }

    /// A whole number within bounds; null if the option is absent, or null itself.
    pub fn number(options: Options, name: []const u8, least: u32, most: u32) Error!?u32 {
        const value = options.member(name) orelse return null;
        if (value == .integer and value.integer >= least and value.integer <= most) return @intCast(value.integer);
        const written = try std.json.Stringify.valueAlloc(options.arena, value, .{});
        const words = "{s}: {s} is not a whole number from {} to {}";
        return refuse(options.arena, options.reason, words, .{ name, beginning(written), least, most });
    }

    /// A text; null if the option is absent, or null itself.
    pub fn text(options: Options, name: []const u8) Error!?[]const u8 {
        const value = options.member(name) orelse return null;
        if (value == .string) return value.string;
        const written = try std.json.Stringify.valueAlloc(options.arena, value, .{});
        return refuse(options.arena, options.reason, "{s}: {s} is not a text in quotes", .{ name, beginning(written) });
    }

    fn member(options: Options, name: []const u8) ?Value {
        var found: ?Value = null;
        for (options.members.keys(), options.members.values()) |key, value| {
            if (std.ascii.eqlIgnoreCase(key, name)) found = if (value == .null) null else value;
        }
        return found;
    }
};

fn refuse(arena: std.mem.Allocator, reason: *[]const u8, comptime words: []const u8, what: anytype) Error {
    reason.* = try std.fmt.allocPrint(arena, words, what);
    return error.Refused;
}

/// No character is cut in two.
fn beginning(text: []const u8) []const u8 {
    if (text.len <= shown) return text;
    var end: usize = shown;
    while (text[end] & 0xc0 == 0x80) end -= 1;
    return text[0..end];
}

fn mtu(arena: std.mem.Allocator, text: []const u8, reason: *[]const u8) Error!?u32 {
    return (try Options.read(arena, text, reason)).number("MTU", 1280, 65535);
}

test "a number is found by its name in any case, and may be missing" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var reason: []const u8 = "";
    const Case = struct { text: []const u8, found: ?u32 };
    for ([_]Case{
        .{ .text = "{}", .found = null },
        .{ .text = "{\"MTU\":null}", .found = null },
        .{ .text = "{\"mtu\":1280,\"Other\":{\"MTU\":[1]}}", .found = 1280 },
        .{ .text = "{\"M\\u0054U\":1401}", .found = 1401 },
        .{ .text = "{\"MTU\":1400,\"MTU\":1500}", .found = 1500 },
    }) |case| try std.testing.expectEqual(case.found, try mtu(arena.allocator(), case.text, &reason));
}

test "a text is a text and nothing else" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    var reason: []const u8 = "";
    const options: Options = try .read(arena.allocator(), "{\"Zone\":\"a\",\"GBP\":true}", &reason);
    try std.testing.expectEqualStrings("a", (try options.text("zone")).?);
    try std.testing.expectEqual(null, try options.text("Other"));
    try std.testing.expectError(error.Refused, options.text("GBP"));
    try std.testing.expectEqualStrings("GBP: true is not a text in quotes", reason);
}

test "what is wrong is named with what would be right" {
    var arena: std.heap.ArenaAllocator = .init(std.testing.allocator);
    defer arena.deinit();
    const Case = struct { text: []const u8, reason: []const u8 };
    for ([_]Case{
        .{ .text = "{\"MTU\":\"1400\"}", .reason = "MTU: \"1400\" is not a whole number from 1280 to 65535" },
        .{ .text = "{\"MTU\":1279}", .reason = "MTU: 1279 is not a whole number from 1280 to 65535" },
        .{ .text = "{\"MTU\":[1400]}", .reason = "MTU: [1400] is not a whole number from 1280 to 65535" },
        .{
            .text = "{\"MTU\":99999999999999999999}",
            .reason = "MTU: 99999999999999999999 is not a whole number from 1280 to 65535",
        },
        .{
            .text = "{\"MTU\":\"" ++ "\u{e9}" ** 60 ++ "\"}",
            .reason = "MTU: \"" ++ "\u{e9}" ** 49 ++ " is not a whole number from 1280 to 65535",
        },
        .{ .text = "[1]", .reason = "the options are not a JSON object such as {\"Key\": 1}" },
        .{ .text = "{", .reason = "the options are not JSON: UnexpectedEndOfInput" },
    }) |case| {
        var reason: []const u8 = "";
        try std.testing.expectError(error.Refused, mtu(arena.allocator(), case.text, &reason));
        try std.testing.expectEqualStrings(case.reason, reason);
    }
}
