// A backend for nodes on one link: packets for a peer's subnet go to the peer's own address.
//
// Each call is a transaction of the host's: it is applied when the function returns true, and not at all when it returns false. What
// was declared for a peer is forgotten before the peer is handed over again, so there is nothing to delete.
//
// Arguments belong to the function that is called, which frees them; what it answers is freed by the caller.

#include "json.h"
#include "plugin.h"
#include "text.h"

#include <stdlib.h>
#include <string.h>

// The plugin's name, and the `Backend.Type` that it is for.
#define NAME "example-host-gw"
#define VERSION "0.1.0"

typedef flannel_backend_types_ip_address_t address_t;
typedef flannel_backend_types_ip_prefix_t prefix_t;
typedef flannel_backend_types_lease_t lease_t;

// What became of a peer.
typedef enum { SERVED, REJECTED, REFUSED } outcome_t;

static bool has_ipv4;
static bool has_ipv6;

void exports_flannel_backend_policy_describe(exports_flannel_backend_policy_description_t *description) {
    plugin_string_dup(&description->name, NAME);
    plugin_string_dup(&description->version, VERSION);
    description->backend_types.ptr = malloc(sizeof(plugin_string_t));
    description->backend_types.len = 1;
    plugin_string_dup(description->backend_types.ptr, NAME);
}

bool exports_flannel_backend_policy_register(
    exports_flannel_backend_policy_node_t *node, plugin_string_t *config,
    exports_flannel_backend_policy_registration_t *registration, plugin_string_t *error
) {
    has_ipv4 = node->ipv4_network.is_some;
    has_ipv6 = node->ipv6_network.is_some;
    uint32_t mtu = node->external.mtu;
    text_t wrong = {0};

    bool own_ipv4 = node->external.ipv4.is_some && node->public_ipv4.is_some
        && memcmp(&node->external.ipv4.val, &node->public_ipv4.val, sizeof node->public_ipv4.val) == 0;
    bool own_ipv6 = node->external.ipv6.is_some && node->public_ipv6.is_some
        && memcmp(&node->external.ipv6.val, &node->public_ipv6.val, sizeof node->public_ipv6.val) == 0;
    json_t options = json_read((const char *)config->ptr, config->len);
    bool works = false;
    if ((has_ipv4 && !own_ipv4) || (has_ipv6 && !own_ipv6)) {
        // Peers send to the public address: behind NAT, nothing would listen there.
        append_text(&wrong, "the public address is not ");
        append(&wrong, node->external.name.ptr, node->external.name.len);
        append_text(&wrong, "'s own: this backend cannot work through NAT");
    } else if (!json_is_object(options)) {
        append_text(&wrong, "the options are not a JSON object such as {\"Key\": 1}");
    } else {
        // An example of an option, "Backend": {"Type": "example-host-gw", "MTU": 1400}: what is wrong with it is said by option_number.
        works = option_number(options, "MTU", 1280, 65535, &mtu, &wrong);
    }
    if (works) {
        *registration = (exports_flannel_backend_policy_registration_t){
            .mtu = mtu < node->external.mtu ? mtu : node->external.mtu,
        };
        plugin_string_dup(&registration->backend_type, NAME);
    } else {
        answer(error, &wrong);
    }
    exports_flannel_backend_policy_node_free(node);
    plugin_string_free(config);
    return works;
}

bool exports_flannel_backend_policy_lease_acquired(lease_t *node_lease, plugin_string_t *error) {
    // No device of its own, so no address to put anywhere.
    (void)error;
    flannel_backend_types_lease_free(node_lease);
    return true;
}

// Declares the route to a peer's subnet. `reason` is why not: the policy's own, or the host's.
static outcome_t reach(uint64_t peer, const prefix_t *subnet, address_t *via, plugin_string_t *reason) {
    flannel_backend_links_own_link_t external = flannel_backend_links_external();
    flannel_backend_links_borrow_link_t link = flannel_backend_links_borrow_link(external);
    flannel_backend_routes_route_t route = {.destination = *subnet, .via = *via, .onlink = false};
    flannel_backend_types_error_t refusal;
    outcome_t outcome = SERVED;
    bool on_link = false;
    if (!flannel_backend_links_is_on_link(via, &on_link, &refusal)) {
        outcome = REFUSED;
    } else if (!on_link) {
        // When this changes, the host asks again.
        plugin_string_t name;
        flannel_backend_links_method_link_name(link, &name);
        text_t text = {0};
        append_address(&text, via);
        append_text(&text, " is not on the link of ");
        append(&text, name.ptr, name.len);
        append_text(&text, ": this backend needs all nodes on one link");
        answer(reason, &text);
        plugin_string_free(&name);
        outcome = REJECTED;
    } else if (!flannel_backend_routes_put(peer, &route, link, &refusal)) {
        outcome = REFUSED;
    }
    if (outcome == REFUSED) {
        // What the host has refused is for the operator to see. The text is at the same place in all kinds of errors.
        *reason = refusal.val.denied;
    }
    flannel_backend_links_link_drop_own(external);
    return outcome;
}

static void ignore(lease_t *lease) {
    plugin_string_t message;
    plugin_string_set(&message, "ignoring a peer of another backend");
    plugin_tuple2_string_string_t type = {.f1 = lease->backend_type};
    plugin_string_set(&type.f0, "type");
    plugin_list_tuple2_string_string_t fields = {.ptr = &type, .len = 1};
    flannel_backend_log_write(FLANNEL_BACKEND_LOG_LEVEL_DEBUG, &message, &fields);
}

// Declares what a peer needs.
static outcome_t put(uint64_t peer, lease_t *lease, plugin_string_t *reason) {
    if (!is_text(&lease->backend_type, NAME)) {
        ignore(lease);
        return SERVED;
    }
    outcome_t outcome = SERVED;
    if (has_ipv4 && lease->ipv4_subnet.is_some && lease->public_ipv4.is_some) {
        prefix_t subnet = {.tag = FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV4, .val.ipv4 = lease->ipv4_subnet.val};
        address_t via = {.tag = FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4, .val.ipv4 = lease->public_ipv4.val};
        outcome = reach(peer, &subnet, &via, reason);
    }
    if (outcome == SERVED && has_ipv6 && lease->ipv6_subnet.is_some && lease->public_ipv6.is_some) {
        prefix_t subnet = {.tag = FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV6, .val.ipv6 = lease->ipv6_subnet.val};
        address_t via = {.tag = FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV6, .val.ipv6 = lease->public_ipv6.val};
        outcome = reach(peer, &subnet, &via, reason);
    }
    return outcome;
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
        // The entries of a peer that is gone go without us.
        if (change->tag != EXPORTS_FLANNEL_BACKEND_POLICY_CHANGE_PUT) {
            continue;
        }
        uint64_t peer = change->val.put.f0;
        plugin_string_t reason;
        outcome = put(peer, &change->val.put.f1, &reason);
        if (outcome == REJECTED) {
            rejections->ptr[rejections->len++] = (exports_flannel_backend_policy_rejection_t){peer, reason};
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
