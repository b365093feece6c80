// Package v20170312 stands in the place of Tencent's, which Go's module proxy does not have: upstream's flanneld compiles with it, and its
// backend tencent-vpc says that it cannot be used.
package v20170312

import "errors"

var errAbsent = errors.New("this build of flanneld has no tencent-vpc")

type Client struct{}

func NewClientWithSecretId(id, key, region string) (*Client, error) {
	return &Client{}, nil
}

type Filter struct {
	Name   *string
	Values []*string
}

type Route struct {
	RouteId              *uint64
	DestinationCidrBlock *string
	GatewayId            *string
	GatewayType          *string
	RouteType            *string
	Enabled              *bool
}

type RouteTable struct {
	RouteTableId *string
	RouteSet     []*Route
}

type DescribeRouteTablesRequest struct {
	Filters []*Filter
}

type RouteTables struct {
	RouteTableSet []*RouteTable
}

type DescribeRouteTablesResponse struct {
	Response *RouteTables
}

type ChangeRoutesRequest struct {
	RouteTableId *string
	Routes       []*Route
}

func NewDescribeRouteTablesRequest() *DescribeRouteTablesRequest {
	return &DescribeRouteTablesRequest{}
}

func NewDeleteRoutesRequest() *ChangeRoutesRequest {
	return &ChangeRoutesRequest{}
}

func NewCreateRoutesRequest() *ChangeRoutesRequest {
	return &ChangeRoutesRequest{}
}

func (*Client) DescribeRouteTables(*DescribeRouteTablesRequest) (*DescribeRouteTablesResponse, error) {
	return nil, errAbsent
}

func (*Client) DeleteRoutes(*ChangeRoutesRequest) (struct{}, error) {
	return struct{}{}, errAbsent
}

func (*Client) CreateRoutes(*ChangeRoutesRequest) (struct{}, error) {
	return struct{}{}, errAbsent
}
