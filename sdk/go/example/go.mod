module example-host-gw

go 1.24
