//! Where a service of a region is.

use crate::http::Url;

/// Regions whose VPC API is at the central endpoint. All others have one of their own: so says the table in the vendor's SDK for
/// Python (`alibabacloud-vpc20160428` 7.2.2, `client.py`), whose entries for the vendor's own test regions are left out here.
const CENTRAL_VPC: [&str; 10] = [
    "cn-beijing-gov-1",
    "cn-fujian",
    "cn-hangzhou",
    "cn-hangzhou-finance",
    "cn-north-2-gov-1",
    "cn-shanghai-finance-1",
    "cn-shenzhen-finance-1",
    "cn-wuhan",
    "cn-yushanfang",
    "cn-zhangbei",
];

/// The endpoint, which is reached over the Internet. Service and region are of `a-z`, `0-9`, `-`.
pub(super) fn of(service: &str, region: &str) -> Url {
    let is_central = service == "vpc" && CENTRAL_VPC.contains(&region);
    let host = if is_central {
        format!("{service}.aliyuncs.com")
    } else {
        format!("{service}.{region}.aliyuncs.com")
    };
    Url { secure: true, host, port: 443, path: "/".to_owned() }
}
