//! What a cloud has to allow the machines, in the cloud's own form.

use flannel_cloud::Provider;
use flannel_plugin_host::Need;

/// The policy that an operator attaches to the machines, in the cloud's own form; nothing where nothing is needed.
pub(crate) fn cloud_policy(needs: &[Need], provider: Provider) -> Option<String> {
    let mut permissions: Vec<&str> = needs
        .iter()
        .filter(|need| need.pattern.provider() == provider)
        .flat_map(|need| need.permissions.iter().map(String::as_str))
        .collect();
    permissions.sort_unstable();
    permissions.dedup();
    if permissions.is_empty() {
        return None;
    }
    let statement = |version: &str| {
        let statement = serde_json::json!([{ "Effect": "Allow", "Action": permissions, "Resource": "*" }]);
        serde_json::json!({ "Version": version, "Statement": statement }).to_string()
    };
    Some(match provider {
        Provider::Aws => statement("2012-10-17"),
        Provider::Alibaba => statement("1"),
        Provider::Tencent => {
            let statement =
                serde_json::json!([{ "effect": "allow", "action": permissions, "resource": ["*"] }]);
            serde_json::json!({ "version": "2.0", "statement": statement }).to_string()
        }
        Provider::Google => {
            let role =
                serde_json::json!({ "title": "flanneld", "stage": "GA", "includedPermissions": permissions });
            role.to_string()
        }
    })
}

#[cfg(test)]
mod tests {
    use flannel_plugin_host::Pattern;

    use super::*;

    #[test]
    fn permissions_become_the_policy_that_an_operator_attaches() {
        let need = |operation: &str, permission: &str| Need {
            pattern: Pattern::parse(operation).expect("an operation"),
            permissions: vec![permission.to_owned()],
        };
        let needs = [
            need("cloud:aws:ec2:DescribeRouteTables", "ec2:DescribeRouteTables"),
            need("cloud:aws:ec2:CreateRoute", "ec2:CreateRoute"),
            need("cloud:tencent:vpc:CreateRoutes", "vpc:CreateRoutes"),
            need("cloud:google:compute:POST projects/*/global/routes", "compute.routes.create"),
        ];
        let aws = cloud_policy(&needs, Provider::Aws).expect("one");
        assert_eq!(
            aws,
            r#"{"Statement":[{"Action":["ec2:CreateRoute","ec2:DescribeRouteTables"],"Effect":"Allow","Resource":"*"}],"Version":"2012-10-17"}"#
        );
        let google = cloud_policy(&needs, Provider::Google).expect("one");
        assert!(google.contains(r#""includedPermissions":["compute.routes.create"]"#), "{google}");
        let tencent = cloud_policy(&needs, Provider::Tencent).expect("one");
        assert_eq!(
            tencent,
            r#"{"statement":[{"action":["vpc:CreateRoutes"],"effect":"allow","resource":["*"]}],"version":"2.0"}"#
        );
        assert_eq!(cloud_policy(&needs, Provider::Alibaba), None);
    }
}
