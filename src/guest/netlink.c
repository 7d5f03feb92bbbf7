#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* A request under construction. Attributes that do not fit make it invalid. */
struct request {
	struct nlmsghdr header;
	union {
		struct ifinfomsg link;
		struct ifaddrmsg address;
		char space[512];
	} body;
	int overflow;
};

static void start(struct request *request, int type, int flags, size_t body)
{
	memset(request, 0, sizeof *request);
	request->header.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
	request->header.nlmsg_type = (uint16_t)type;
	request->header.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
}

/* Reserve aligned space at the end. */
static void *reserve(struct request *request, size_t size)
{
	size_t used = NLMSG_ALIGN(request->header.nlmsg_len);

	if (used + NLMSG_ALIGN(size) > sizeof request->header + sizeof request->body) {
		request->overflow = 1;
		return NULL;
	}
	request->header.nlmsg_len = (uint32_t)(used + size);
	return (char *)request + used;
}

static struct rtattr *put(struct request *request, int type, const void *data, size_t size)
{
	struct rtattr *attribute = reserve(request, RTA_LENGTH(size));

	if (!attribute)
		return NULL;
	attribute->rta_type = (unsigned short)type;
	attribute->rta_len = (unsigned short)RTA_LENGTH(size);
	if (size > 0)
		memcpy(RTA_DATA(attribute), data, size);
	return attribute;
}

static void put_text(struct request *request, int type, const char *text)
{
	put(request, type, text, strlen(text) + 1);
}

/* End an attribute that holds all that were put after it. */
static void end(struct request *request, struct rtattr *attribute)
{
	if (attribute)
		attribute->rta_len = (unsigned short)((char *)request + request->header.nlmsg_len - (char *)attribute);
}

static int receive_result(int socket)
{
	union {
		struct nlmsghdr header;
		char space[4096];
	} reply;
	ssize_t size;

	do
		size = recv(socket, &reply, sizeof reply, 0);
	while (size < 0 && errno == EINTR);
	if (size < 0)
		return -1;
	if ((size_t)size < NLMSG_LENGTH(sizeof(struct nlmsgerr)) || reply.header.nlmsg_type != NLMSG_ERROR) {
		errno = EPROTO;
		return -1;
	}
	errno = -((struct nlmsgerr *)NLMSG_DATA(&reply.header))->error;
	return errno ? -1 : 0;
}

static int perform(struct request *request)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int result = -1, error;
	int file;

	if (request->overflow) {
		errno = ENAMETOOLONG;
		return -1;
	}
	file = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (file < 0)
		return -1;
	if (sendto(file, request, request->header.nlmsg_len, 0, (struct sockaddr *)&kernel, sizeof kernel) >= 0)
		result = receive_result(file);
	error = errno;
	close(file);
	errno = error;
	return result;
}

static void start_link(struct request *request, int flags, const char *name)
{
	start(request, RTM_NEWLINK, flags, sizeof request->body.link);
	put_text(request, IFLA_IFNAME, name);
}

int link_up(const char *name)
{
	struct request request;

	start_link(&request, 0, name);
	request.body.link.ifi_flags = IFF_UP;
	request.body.link.ifi_change = IFF_UP;
	return perform(&request);
}

int link_set_hardware(const char *name, const uint8_t address[6])
{
	struct request request;

	start_link(&request, 0, name);
	put(&request, IFLA_ADDRESS, address, 6);
	return perform(&request);
}

static int digit(char character)
{
	if (character >= '0' && character <= '9')
		return character - '0';
	character |= 0x20;
	return character >= 'a' && character <= 'f' ? character - 'a' + 10 : -1;
}

int hardware_parse(const char *text, uint8_t address[6])
{
	for (int i = 0; i < 6; i++) {
		int high = digit(*text), low = high < 0 ? -1 : digit(text[1]);

		if (low < 0 || text[2] != (i < 5 ? ':' : '\0')) {
			errno = EINVAL;
			return -1;
		}
		address[i] = (uint8_t)(high << 4 | low);
		text += 3;
	}
	return 0;
}

int link_add(const char *name, const char *kind)
{
	struct request request;
	struct rtattr *info;

	start_link(&request, NLM_F_CREATE | NLM_F_EXCL, name);
	info = put(&request, IFLA_LINKINFO, NULL, 0);
	put_text(&request, IFLA_INFO_KIND, kind);
	end(&request, info);
	return perform(&request);
}

int link_add_veth(const char *name, const char *peer)
{
	struct request request;
	struct rtattr *info, *data, *other;

	start_link(&request, NLM_F_CREATE | NLM_F_EXCL, name);
	info = put(&request, IFLA_LINKINFO, NULL, 0);
	put_text(&request, IFLA_INFO_KIND, "veth");
	data = put(&request, IFLA_INFO_DATA, NULL, 0);
	other = put(&request, VETH_INFO_PEER, NULL, 0);
	if (other && reserve(&request, sizeof(struct ifinfomsg)))
		put_text(&request, IFLA_IFNAME, peer);
	end(&request, other);
	end(&request, data);
	end(&request, info);
	return perform(&request);
}

int link_move(const char *name, pid_t pid)
{
	struct request request;
	uint32_t number = (uint32_t)pid;

	start_link(&request, 0, name);
	put(&request, IFLA_NET_NS_PID, &number, sizeof number);
	return perform(&request);
}

int address_add(const char *name, const char *address, int prefix)
{
	struct request request;
	unsigned char bytes[16];
	int family = strchr(address, ':') ? AF_INET6 : AF_INET;
	size_t size = family == AF_INET6 ? 16 : 4;

	if (inet_pton(family, address, bytes) != 1) {
		errno = EINVAL;
		return -1;
	}
	start(&request, RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, sizeof request.body.address);
	request.body.address.ifa_family = (uint8_t)family;
	request.body.address.ifa_prefixlen = (uint8_t)prefix;
	request.body.address.ifa_index = if_nametoindex(name);
	if (!request.body.address.ifa_index)
		return -1;
	put(&request, IFA_LOCAL, bytes, size);
	put(&request, IFA_ADDRESS, bytes, size);
	return perform(&request);
}
