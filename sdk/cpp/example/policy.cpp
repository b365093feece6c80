// A backend for nodes on one link: packets for a peer's subnet go to the peer's own address.
//
// Each call is a transaction of the host's: it is applied when the function returns true, and not at all when it returns false. What
// was declared for a peer is forgotten before the peer is handed over again, so there is nothing to delete.
//
// There is no C++ library, and there are no exceptions. Arguments belong to the function that is called, which frees them; what it answers is
// freed by the caller.

#include "json.h"
#include "plugin.h"
#include "support.hpp"

#include <stdlib.h>
#include <string.h>

namespace {

// The plugin's name, and the `Backend.Type` that it is for.
constexpr const char *NAME = "example-host-gw";
constexpr const char *VERSION = "0.1.0";

using Prefix = flannel_backend_types_ip_prefix_t;
using Lease = flannel_backend_types_lease_t;

// The external interface, whose handle is given back: the host counts them.
class External {
public:
    External() : own(flannel_backend_links_external()) {}
    External(const External &) = delete;
    External &operator=(const External &) = delete;
    ~External() { flannel_backend_links_link_drop_own(own); }
    auto link() const { return flannel_backend_links_borrow_link(own); }

private:
    flannel_backend_links_own_link_t own;
};

// What became of a peer.
enum class Outcome { served, rejected, refused };

bool has_ipv4;
bool has_ipv6;

// Declares the route to a peer's subnet. `reason` is why not: the policy's own, or the host's.
Outcome reach(uint64_t peer, const Prefix &subnet, Address via, plugin_string_t &reason) {
    External external;
    flannel_backend_routes_route_t route = {subnet, via, false};
    flannel_backend_types_error_t refusal;
    bool on_link = false;
    if (!flannel_backend_links_is_on_link(&via, &on_link, &refusal)) {
        // What the host has refused is for the operator to see. The text is at the same place in all kinds of errors.
        reason = refusal.val.denied;
        return Outcome::refused;
    }
    if (!on_link) {
        // When this changes, the host asks again.
        plugin_string_t name;
        flannel_backend_links_method_link_name(external.link(), &name);
        Owned<plugin_string_t> owned(&name, plugin_string_free);
        Text text;
        text.add(via).add(" is not on the link of ").add(name.ptr, name.len);
        text.add(": this backend needs all nodes on one link").answer(&reason);
        return Outcome::rejected;
    }
    if (!flannel_backend_routes_put(peer, &route, external.link(), &refusal)) {
        reason = refusal.val.denied;
        return Outcome::refused;
    }
    return Outcome::served;
}

void ignore(const Lease &lease) {
    plugin_string_t message;
    plugin_string_set(&message, "ignoring a peer of another backend");
    plugin_tuple2_string_string_t type = {};
    plugin_string_set(&type.f0, "type");
    type.f1 = lease.backend_type;
    plugin_list_tuple2_string_string_t fields = {&type, 1};
    flannel_backend_log_write(FLANNEL_BACKEND_LOG_LEVEL_DEBUG, &message, &fields);
}

// Declares what a peer needs.
Outcome put(uint64_t peer, const Lease &lease, plugin_string_t &reason) {
    if (!is_text(lease.backend_type, NAME)) {
        ignore(lease);
        return Outcome::served;
    }
    Outcome outcome = Outcome::served;
    if (has_ipv4 && lease.ipv4_subnet.is_some && lease.public_ipv4.is_some) {
        Prefix subnet = {};
        subnet.tag = FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV4;
        subnet.val.ipv4 = lease.ipv4_subnet.val;
        Address via = {};
        via.tag = FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV4;
        via.val.ipv4 = lease.public_ipv4.val;
        outcome = reach(peer, subnet, via, reason);
    }
    if (outcome == Outcome::served && has_ipv6 && lease.ipv6_subnet.is_some && lease.public_ipv6.is_some) {
        Prefix subnet = {};
        subnet.tag = FLANNEL_BACKEND_TYPES_IP_PREFIX_IPV6;
        subnet.val.ipv6 = lease.ipv6_subnet.val;
        Address via = {};
        via.tag = FLANNEL_BACKEND_TYPES_IP_ADDRESS_IPV6;
        via.val.ipv6 = lease.public_ipv6.val;
        outcome = reach(peer, subnet, via, reason);
    }
    return outcome;
}

} // namespace

void exports_flannel_backend_policy_describe(exports_flannel_backend_policy_description_t *description) {
    plugin_string_dup(&description->name, NAME);
    plugin_string_dup(&description->version, VERSION);
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
    has_ipv4 = node->ipv4_network.is_some;
    has_ipv6 = node->ipv6_network.is_some;
    auto own = [](const auto &external, const auto &published) {
        return external.is_some && published.is_some && memcmp(&external.val, &published.val, sizeof external.val) == 0;
    };
    uint32_t mtu = node->external.mtu;
    Text wrong;
    if ((has_ipv4 && !own(node->external.ipv4, node->public_ipv4))
        || (has_ipv6 && !own(node->external.ipv6, node->public_ipv6))) {
        // Peers send to the public address: behind NAT, nothing would listen there.
        wrong.add("the public address is not ").add(node->external.name.ptr, node->external.name.len);
        wrong.add("'s own: this backend cannot work through NAT").answer(error);
        return false;
    }
    json_t options = json_read(reinterpret_cast<const char *>(config->ptr), config->len);
    if (!json_is_object(options)) {
        wrong.add("the options are not a JSON object such as {\"Key\": 1}").answer(error);
        return false;
    }
    // An example of an option, "Backend": {"Type": "example-host-gw", "MTU": 1400}: what is wrong with it is said by option_number.
    if (!option_number(options, "MTU", 1280, 65535, mtu, wrong)) {
        wrong.answer(error);
        return false;
    }
    *registration = {};
    registration->mtu = mtu < node->external.mtu ? mtu : node->external.mtu;
    plugin_string_dup(&registration->backend_type, NAME);
    return true;
}

bool exports_flannel_backend_policy_lease_acquired(Lease *node_lease, plugin_string_t *) {
    // No device of its own, so no address to put anywhere.
    flannel_backend_types_lease_free(node_lease);
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
        // The entries of a peer that is gone go without us.
        if (change.tag != EXPORTS_FLANNEL_BACKEND_POLICY_CHANGE_PUT) {
            continue;
        }
        uint64_t peer = change.val.put.f0;
        plugin_string_t reason;
        outcome = put(peer, change.val.put.f1, reason);
        if (outcome == Outcome::rejected) {
            rejections->ptr[rejections->len++] = {peer, reason};
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
