//! Memory for the bindings, which are C: what they call of <stdlib.h> and <string.h>, on the allocator that the policy has, too.

const std = @import("std");

pub const allocator = std.heap.wasm_allocator;

// What stands before each block is its whole size, and blocks are aligned for whatever C puts there.
const alignment: std.mem.Alignment = .@"16";
const header = 16;

fn whole(block: *anyopaque) []u8 {
    const start = @as([*]u8, @ptrCast(block)) - header;
    const size: *usize = @ptrCast(@alignCast(start));
    return start[0..size.*];
}

/// Memory for a list that is handed to the host, which frees it.
pub fn make(comptime T: type, count: usize) [*]T {
    return @ptrCast(@alignCast(calloc(count, @sizeOf(T))));
}

export fn malloc(size: usize) ?*anyopaque {
    const length = std.math.add(usize, size, header) catch abort();
    const start = allocator.rawAlloc(length, alignment, @returnAddress()) orelse abort();
    @as(*usize, @ptrCast(@alignCast(start))).* = length;
    return start + header;
}

export fn calloc(count: usize, size: usize) ?*anyopaque {
    const length = std.math.mul(usize, count, size) catch abort();
    const block = malloc(length).?;
    @memset(whole(block)[header..], 0);
    return block;
}

export fn realloc(block: ?*anyopaque, size: usize) ?*anyopaque {
    const old = block orelse return malloc(size);
    const content = whole(old)[header..];
    const larger = malloc(size).?;
    const kept = @min(content.len, size);
    @memcpy(whole(larger)[header..][0..kept], content[0..kept]);
    free(old);
    return larger;
}

pub export fn free(block: ?*anyopaque) void {
    allocator.rawFree(whole(block orelse return), alignment, @returnAddress());
}

export fn abort() noreturn {
    @trap();
}

export fn strlen(text: [*:0]const u8) usize {
    return std.mem.len(text);
}
