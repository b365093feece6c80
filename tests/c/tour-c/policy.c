// What docs/languages.md shows of a backend in C: nodes reach each other by VXLAN, and each counts its starts.

#include "json.h"
#include "plugin.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

#define NAME "tour"
// Bytes that VXLAN adds to a packet.
#define OVERHEAD 50

typedef flannel_backend_types_error_t refusal_t;
typedef flannel_backend_types_lease_t lease_t;

// What became of a peer.
typedef enum { SERVED, REJECTED, REFUSED } outcome_t;

// A handle stays valid for as long as the plugin runs.
static flannel_backend_links_own_link_t vtep;

// Counts this start in the durable store, and says it in the log.
static bool count_start(refusal_t *refusal) {
    plugin_string_t key;
    plugin_string_set(&key, "starts");
    plugin_option_list_u8_t stored;
    if (!flannel_backend_state_get(&key, &stored, refusal)) {
        return false;
    }
    uint32_t starts = 0;
    if (stored.is_some) {
        json_number(json_read((const char *)stored.val.ptr, stored.val.len), &starts);
    }
    plugin_option_list_u8_free(&stored);
    text_t number = {0};
    append_number(&number, starts + 1, 10);
    plugin_list_u8_t value = {.ptr = (uint8_t *)number.bytes, .len = number.length};
    if (!flannel_backend_state_set(&key, &value, refusal)) {
        return false;
    }
    plugin_string_t message;
    plugin_string_set(&message, "started");
    plugin_tuple2_string_string_t field = {.f1 = {.ptr = (uint8_t *)number.bytes, .len = number.length}};
    plugin_string_set(&field.f0, "starts");
    plugin_list_tuple2_string_string_t fields = {.ptr = &field, .len = 1};
    flannel_backend_log_write(FLANNEL_BACKEND_LOG_LEVEL_INFO, &message, &fields);
    return true;
}

// Declares the device, and puts what peers have to know of it into `data`.
static bool declare(uint32_t vni, uint32_t mtu, text_t *data, refusal_t *refusal) {
    text_t name = {0};
    append_text(&name, "flannel.");
    append_number(&name, vni, 10);
    flannel_backend_links_vxlan_t device = {
        .name = {.ptr = (uint8_t *)name.bytes, .len = name.length},
        .vni = vni,
        .family = FLANNEL_BACKEND_TYPES_IP_FAMILY_IPV4,
        .mtu = mtu,
    };
    if (!flannel_backend_links_ensure_vxlan(&device, &vtep, refusal)) {
        return false;
    }
    flannel_backend_types_mac_address_t mac = {0};
    flannel_backend_links_method_link_mac(flannel_backend_links_borrow_link(vtep), &mac);
    append_text(data, "{\"VNI\":");
    append_number(data, vni, 10);
    append_text(data, ",\"VtepMAC\":\"");
    append_mac(data, &mac);
    append_text(data, "\"}");
    return true;
}

// Checks the options, and declares. What is wrong goes into `wrong`, if it is not the host that refuses.
static bool start(
    const exports_flannel_backend_policy_node_t *node, json_t options, text_t *data, text_t *wrong, refusal_t *refusal
) {
    if (!node->external.ipv4.is_some) {
        append_text(wrong, "tour tunnels IPv4, which this cluster does not have");
        return false;
    }
    if (!json_is_object(options)) {
        append_text(wrong, "the options are not a JSON object such as {\"Key\": 1}");
        return false;
    }
    uint32_t vni = 1;
    if (!option_number(options, "VNI", 1, 16777215, &vni, wrong)) {
        return false;
    }
    return count_start(refusal) && declare(vni, node->external.mtu - OVERHEAD, data, refusal);
}

void exports_flannel_backend_policy_describe(exports_flannel_backend_policy_description_t *description) {
    plugin_string_dup(&description->name, NAME);
    plugin_string_dup(&description->version, "0.1.0");
    description->backend_types.ptr = malloc(sizeof(plugin_string_t));
    description->backend_types.len = 1;
    plugin_string_dup(description->backend_types.ptr, NAME);
}

bool exports_flannel_backend_policy_register(
    exports_flannel_backend_policy_node_t *node, plugin_string_t *config,
    exports_flannel_backend_policy_registration_t *registration, plugin_string_t *error
) {
    text_t data = {0}, wrong = {0};
    refusal_t refusal;
    bool works = start(node, json_read((const char *)config->ptr, config->len), &data, &wrong, &refusal);
    if (works) {
        *registration = (exports_flannel_backend_policy_registration_t){.mtu = node->external.mtu - OVERHEAD};
        plugin_string_dup(&registration->backend_type, NAME);
        registration->backend_data.is_some = true;
        answer(&registration->backend_data.val, &data);
    } else if (wrong.length > 0) {
        answer(error, &wrong);
    } else {
        // What the host refuses is for the operator to see. The text is at the same place in all kinds of errors.
        *error = refusal.val.denied;
    }
    exports_flannel_backend_policy_node_free(node);
    plugin_string_free(config);
    return works;
}

bool exports_flannel_backend_policy_lease_acquired(lease_t *lease, plugin_string_t *error) {
    flannel_backend_types_ip_prefix_t address = {.tag = FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV4, .val.ipv4 = lease->ipv4_subnet.val};
    address.val.ipv4.length = 32;
    flannel_backend_links_list_ip_prefix_t addresses = {.ptr = &address, .len = lease->ipv4_subnet.is_some ? 1 : 0};
    refusal_t refusal;
    bool done = flannel_backend_links_method_link_set_addresses(flannel_backend_links_borrow_link(vtep), &addresses, &refusal);
    if (!done) {
        *error = refusal.val.denied;
    }
    flannel_backend_types_lease_free(lease);
    return done;
}

// Declares what a peer needs. `reason` is why not: the policy's own, or the host's.
static outcome_t put(uint64_t peer, const lease_t *lease, plugin_string_t *reason) {
    if (!is_text(&lease->backend_type, NAME) || !lease->ipv4_subnet.is_some || !lease->public_ipv4.is_some) {
        return SERVED;
    }
    json_t data = {0};
    if (lease->backend_data.is_some) {
        data = json_read((const char *)lease->backend_data.val.ptr, lease->backend_data.val.len);
    }
    flannel_backend_types_mac_address_t mac;
    text_t wrong = {0};
    if (!option_mac(data, "VtepMAC", &mac, &wrong)) {
        answer(reason, &wrong);
        return REJECTED;
    }
    flannel_backend_links_borrow_link_t device = flannel_backend_links_borrow_link(vtep);
    // Without a tag it is IPv4.
    flannel_backend_types_ip_address_t gateway = {.val.ipv4 = lease->ipv4_subnet.val.address};
    flannel_backend_types_ip_address_t node = {.val.ipv4 = lease->public_ipv4.val};
    flannel_backend_routes_route_t route = {.destination.val.ipv4 = lease->ipv4_subnet.val, .via = gateway, .onlink = true};
    refusal_t refusal;
    if (!flannel_backend_routes_put(peer, &route, device, &refusal)
        || !flannel_backend_fdb_put(peer, &mac, &node, device, &refusal)
        || !flannel_backend_neighbours_put(peer, &gateway, &mac, device, &refusal)) {
        *reason = refusal.val.denied;
        return REFUSED;
    }
    return SERVED;
}

bool exports_flannel_backend_policy_apply(
    exports_flannel_backend_policy_list_change_t *changes, exports_flannel_backend_policy_list_rejection_t *rejections,
    plugin_string_t *error
) {
    rejections->ptr = calloc(changes->len, sizeof *rejections->ptr);
    rejections->len = 0;
    outcome_t outcome = SERVED;
    for (size_t i = 0; i < changes->len && outcome != REFUSED; i++) {
        exports_flannel_backend_policy_change_t *change = &changes->ptr[i];
        if (change->tag != EXPORTS_FLANNEL_BACKEND_POLICY_CHANGE_PUT) {
            continue;
        }
        plugin_string_t reason;
        outcome = put(change->val.put.f0, &change->val.put.f1, &reason);
        if (outcome == REJECTED) {
            rejections->ptr[rejections->len++] = (exports_flannel_backend_policy_rejection_t){change->val.put.f0, reason};
        } else if (outcome == REFUSED) {
            *error = reason;
        }
    }
    exports_flannel_backend_policy_list_change_free(changes);
    if (outcome == REFUSED || rejections->len == 0) {
        // An empty list has nothing that the caller would free.
        for (size_t i = 0; i < rejections->len; i++) {
            exports_flannel_backend_policy_rejection_free(&rejections->ptr[i]);
        }
        free(rejections->ptr);
        rejections->len = 0;
    }
    return outcome != REFUSED;
}

bool exports_flannel_backend_policy_tick(plugin_option_u64_t *next, plugin_string_t *error) {
    (void)error;
    next->is_some = false;
    return true;
}
