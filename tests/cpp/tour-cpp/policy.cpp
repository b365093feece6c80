// What docs/languages.md shows of a backend in C++: nodes reach each other by VXLAN, and each counts its starts.

#include "json.h"
#include "plugin.h"
#include "support.hpp"

#include <stdlib.h>
#include <string.h>

namespace {

constexpr const char *NAME = "tour";
// Bytes that VXLAN adds to a packet.
constexpr uint32_t OVERHEAD = 50;

using Refusal = flannel_backend_types_error_t;
using Lease = flannel_backend_types_lease_t;

// What became of a peer.
enum class Outcome { served, rejected, refused };

// A handle stays valid for as long as the plugin runs.
flannel_backend_links_own_link_t vtep;

// Counts this start in the durable store, and says it in the log.
bool count_start(Refusal &refusal) {
    plugin_string_t key;
    plugin_string_set(&key, "starts");
    plugin_option_list_u8_t stored;
    if (!flannel_backend_state_get(&key, &stored, &refusal)) {
        return false;
    }
    Owned<plugin_option_list_u8_t> owned(&stored, plugin_option_list_u8_free);
    uint32_t starts = 0;
    if (stored.is_some) {
        json_number(json_read(reinterpret_cast<const char *>(stored.val.ptr), stored.val.len), &starts);
    }
    Text number;
    number.add(starts + 1);
    plugin_list_u8_t value = {number.borrowed().ptr, number.borrowed().len};
    if (!flannel_backend_state_set(&key, &value, &refusal)) {
        return false;
    }
    plugin_string_t message;
    plugin_string_set(&message, "started");
    plugin_tuple2_string_string_t field = {key, number.borrowed()};
    plugin_list_tuple2_string_string_t fields = {&field, 1};
    flannel_backend_log_write(FLANNEL_BACKEND_LOG_LEVEL_INFO, &message, &fields);
    return true;
}

// Declares the device, and puts what peers have to know of it into `data`.
bool declare(uint32_t vni, uint32_t mtu, Text &data, Refusal &refusal) {
    Text name;
    name.add("flannel.").add(vni);
    flannel_backend_links_vxlan_t device = {};
    device.name = name.borrowed();
    device.vni = vni;
    device.family = FLANNEL_BACKEND_TYPES_IP_FAMILY_IPV4;
    device.mtu = mtu;
    if (!flannel_backend_links_ensure_vxlan(&device, &vtep, &refusal)) {
        return false;
    }
    Mac mac = {};
    flannel_backend_links_method_link_mac(flannel_backend_links_borrow_link(vtep), &mac);
    data.add("{\"VNI\":").add(vni).add(",\"VtepMAC\":\"").add(mac).add("\"}");
    return true;
}

// Declares what a peer needs. `reason` is why not: the policy's own, or the host's.
Outcome put(uint64_t peer, const Lease &lease, plugin_string_t &reason) {
    if (!is_text(lease.backend_type, NAME) || !lease.ipv4_subnet.is_some || !lease.public_ipv4.is_some) {
        return Outcome::served;
    }
    json_t data = {};
    if (lease.backend_data.is_some) {
        data = json_read(reinterpret_cast<const char *>(lease.backend_data.val.ptr), lease.backend_data.val.len);
    }
    Mac mac;
    Text wrong;
    if (!option_mac(data, "VtepMAC", mac, wrong)) {
        wrong.answer(&reason);
        return Outcome::rejected;
    }
    auto device = flannel_backend_links_borrow_link(vtep);
    // Without a tag they are of IPv4.
    Address gateway = {}, node = {};
    gateway.val.ipv4 = lease.ipv4_subnet.val.address;
    node.val.ipv4 = lease.public_ipv4.val;
    flannel_backend_routes_route_t route = {};
    route.destination.val.ipv4 = lease.ipv4_subnet.val;
    route.via = gateway;
    route.onlink = true;
    Refusal refusal;
    if (!flannel_backend_routes_put(peer, &route, device, &refusal)
        || !flannel_backend_fdb_put(peer, &mac, &node, device, &refusal)
        || !flannel_backend_neighbours_put(peer, &gateway, &mac, device, &refusal)) {
        reason = refusal.val.denied;
        return Outcome::refused;
    }
    return Outcome::served;
}

} // namespace

void exports_flannel_backend_policy_describe(exports_flannel_backend_policy_description_t *description) {
    plugin_string_dup(&description->name, NAME);
    plugin_string_dup(&description->version, "0.1.0");
    description->backend_types.ptr = static_cast<plugin_string_t *>(malloc(sizeof(plugin_string_t)));
    description->backend_types.len = 1;
    plugin_string_dup(description->backend_types.ptr, NAME);
}

bool exports_flannel_backend_policy_register(
    exports_flannel_backend_policy_node_t *node, plugin_string_t *config,
    exports_flannel_backend_policy_registration_t *registration, plugin_string_t *error
) {
    Owned<exports_flannel_backend_policy_node_t> owned_node(node, exports_flannel_backend_policy_node_free);
    Owned<plugin_string_t> owned_config(config, plugin_string_free);
    Text data, wrong;
    if (!node->external.ipv4.is_some) {
        wrong.add("tour tunnels IPv4, which this cluster does not have").answer(error);
        return false;
    }
    json_t options = json_read(reinterpret_cast<const char *>(config->ptr), config->len);
    if (!json_is_object(options)) {
        wrong.add("the options are not a JSON object such as {\"Key\": 1}").answer(error);
        return false;
    }
    uint32_t vni = 1;
    if (!option_number(options, "VNI", 1, 16777215, vni, wrong)) {
        wrong.answer(error);
        return false;
    }
    uint32_t mtu = node->external.mtu - OVERHEAD;
    Refusal refusal;
    if (!count_start(refusal) || !declare(vni, mtu, data, refusal)) {
        // What the host refuses is for the operator to see. The text is at the same place in all kinds of errors.
        *error = refusal.val.denied;
        return false;
    }
    *registration = {};
    registration->mtu = mtu;
    plugin_string_dup(&registration->backend_type, NAME);
    registration->backend_data.is_some = true;
    data.answer(&registration->backend_data.val);
    return true;
}

bool exports_flannel_backend_policy_lease_acquired(Lease *lease, plugin_string_t *error) {
    Owned<Lease> owned(lease, flannel_backend_types_lease_free);
    flannel_backend_types_ip_prefix_t address = {};
    address.val.ipv4 = {lease->ipv4_subnet.val.address, 32};
    flannel_backend_links_list_ip_prefix_t addresses = {&address, lease->ipv4_subnet.is_some ? 1u : 0u};
    Refusal refusal;
    if (!flannel_backend_links_method_link_set_addresses(flannel_backend_links_borrow_link(vtep), &addresses, &refusal)) {
        *error = refusal.val.denied;
        return false;
    }
    return true;
}

bool exports_flannel_backend_policy_apply(
    exports_flannel_backend_policy_list_change_t *changes, exports_flannel_backend_policy_list_rejection_t *rejections,
    plugin_string_t *error
) {
    Owned<exports_flannel_backend_policy_list_change_t> owned(changes, exports_flannel_backend_policy_list_change_free);
    using Rejection = exports_flannel_backend_policy_rejection_t;
    rejections->ptr = static_cast<Rejection *>(calloc(changes->len, sizeof(Rejection)));
    rejections->len = 0;
    Outcome outcome = Outcome::served;
    for (size_t i = 0; i < changes->len && outcome != Outcome::refused; i++) {
        const auto &change = changes->ptr[i];
        if (change.tag != EXPORTS_FLANNEL_BACKEND_POLICY_CHANGE_PUT) {
            continue;
        }
        plugin_string_t reason;
        outcome = put(change.val.put.f0, change.val.put.f1, reason);
        if (outcome == Outcome::rejected) {
            rejections->ptr[rejections->len++] = {change.val.put.f0, reason};
        } else if (outcome == Outcome::refused) {
            *error = reason;
        }
    }
    if (outcome == Outcome::refused || rejections->len == 0) {
        // An empty list has nothing that the caller would free.
        for (size_t i = 0; i < rejections->len; i++) {
            exports_flannel_backend_policy_rejection_free(&rejections->ptr[i]);
        }
        free(rejections->ptr);
        rejections->len = 0;
    }
    return outcome != Outcome::refused;
}

bool exports_flannel_backend_policy_tick(plugin_option_u64_t *next, plugin_string_t *) {
    next->is_some = false;
    return true;
}
